# What a week of computing left, ignored by git, beside caches that look just like it.
mkdir -p ws && cd ws
git init -q -b main
. "$SCENES/shop.sh"
printf 'results/\n*.cache\n*.tmp\n' >> .gitignore
commit "The shop"
mkdir -p results/run-1 results/run-2
for number in 1 2 3; do
    printf '%s,%s\n' "$number" "$((number * number))" > "results/run-1/part-$number.csv"
    printf '%s\n' "$number" > "results/run-2/part-$number.tmp"
done
printf 'weights\n' > model.cache
ln model.cache results/best.cache
printf 'lock\n' > .lock
