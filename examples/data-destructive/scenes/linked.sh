# A linked worktree. The repository itself lies beside it, and has work of its own.
mkdir main && cd main
git init -q -b main
. "$SCENES/shop.sh"
commit "The shop"
git worktree add -q -b topic ../ws
sed -i 's/"!"$/"!?"  # in the main worktree/' shop/words.py
printf 'measured by hand\n' > measured.txt
cd ../ws
printf 'topic = True\n' > shop/topic.py
printf 'a draft\n' > draft.md
git add shop/topic.py
