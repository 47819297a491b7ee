# Work that is nowhere but here: edited, new and ignored files.
mkdir -p ws && cd ws
git init -q -b main
. "$SCENES/shop.sh"
commit "The shop"
sed -i 's/"!"$/"!!"  # louder, not committed/' shop/words.py
printf 'ask about rounding\n' > notes.md
mkdir -p drafts build
printf 'a plan for spring\n' > drafts/spring.md
printf 'TOKEN=my-own\n' > keys.local
printf 'what the last build showed\n' > build/seen.txt
chmod 600 keys.local
