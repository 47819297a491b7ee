# A sub-module with work in it that is committed nowhere.
mkdir library && cd library
git init -q -b main
printf 'def tax():\n    return 19\n' > tax.py
git add -A
git commit -q -m "A library"
cd ..
mkdir -p ws && cd ws
git init -q -b main
. "$SCENES/shop.sh"
commit "The shop"
git -c protocol.file.allow=always submodule --quiet add ../library vendor
commit "Vendor the library"
sed -i 's/19/7/' vendor/tax.py
printf 'ask them first\n' > vendor/notes.md
printf 'order of the shelves\n' > shelves.md
