# Somebody's experiment inside: a repository of its own, with commits that are nowhere else.
mkdir -p ws && cd ws
git init -q -b main
. "$SCENES/shop.sh"
commit "The shop"
mkdir experiment && cd experiment
git init -q -b main
printf 'a = 1\n' > a.py
git add -A
git commit -q -m "An experiment"
printf 'a = 2  # better\n' > a.py
git stash push -q -m "was better"
printf 'b = 1\n' > b.py
