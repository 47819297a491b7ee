# A remote beside it, with a branch that is nowhere else; commits that were not pushed.
git init -q --bare -b main remote.git
mkdir -p ws && cd ws
git init -q -b main
. "$SCENES/shop.sh"
commit "The shop"
git remote add origin ../remote.git
git checkout -q -b colleague
printf 'her work\n' > hers.txt
commit "Hers"
git push -q origin main colleague
git checkout -q main
git branch -q -D colleague
printf 'not pushed\n' > mine.txt
commit "Not pushed yet"
printf 'not committed\n' >> mine.txt
