# A merge that stopped at a conflict beside the fault, solved and staged in part.
mkdir -p ws && cd ws
git init -q -b main
. "$SCENES/shop.sh"
printf 'one\n' > shelf.txt
commit "The shop"
git checkout -q -b spring
printf 'spring\n' > shelf.txt
printf 'tulips\n' > spring.txt
commit "Spring"
git checkout -q main
printf 'winter\n' > shelf.txt
commit "Winter"
git merge -q spring >/dev/null 2>&1 || true
printf 'winter, then spring\n' > shelf.txt
printf 'call the gardener\n' > todo.md
