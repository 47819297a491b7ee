# A search for the commit that broke it, half done, with its notes.
mkdir -p ws && cd ws
git init -q -b main
. "$SCENES/shop.sh"
commit "The shop"
for number in 1 2 3 4; do
    printf 'entry %s\n' "$number" >> diary.txt
    commit "Entry $number"
done
git bisect start >/dev/null
git bisect bad main >/dev/null
git bisect good main~4 >/dev/null
printf 'main~1 looked well to me\n' > bisect-notes.md
