# A rebase that stopped at a conflict in a file beside the fault; half of it is solved by hand.
mkdir -p ws && cd ws
git init -q -b main
. "$SCENES/shop.sh"
commit "The shop"
git checkout -q -b labels
sed -i 's/{name}: {price:.2f}/{name} at {price:.2f}/' shop/words.py
commit "Labels say at"
git checkout -q main
sed -i 's/{name}: {price:.2f}/{name} - {price:.2f}/' shop/words.py
commit "Labels have a dash"
git checkout -q labels
git rebase -q main >/dev/null 2>&1 || true
printf '"""Words on labels."""\n\n\ndef shout(text):\n    return text.upper() + "!"\n\n\ndef label(name, price):\n    return f"{name} at - {price:.2f}"  # which?\n' > shop/words.py
printf 'which of the two?\n' > todo.md
