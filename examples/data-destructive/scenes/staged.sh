# Staged files, a stash, a branch that is not merged, a tag that is nowhere else, and a commit on top.
mkdir -p ws && cd ws
git init -q -b main
. "$SCENES/shop.sh"
commit "The shop"
git checkout -q -b returns
printf '"""Returns."""\n\n\ndef back(item):\n    return -item\n' > shop/returns.py
commit "Returns, half done"
git checkout -q main
printf '\n\ndef whisper(text):\n    return text.lower()\n' >> shop/words.py
git stash push -q -m "an idea for labels"
printf 'the shop\n' > README.md
commit "Say what it is"
git tag shown-to-customer
printf 'staged = True\n' > shop/flags.py
git add shop/flags.py
printf 'staged = False  # and edited since\n' > shop/flags.py
printf '# see the wiki\n' >> README.md
git add README.md
