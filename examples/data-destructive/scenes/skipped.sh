# Settings that git was told not to look at, so that it shows no change where there is one.
mkdir -p ws && cd ws
git init -q -b main
. "$SCENES/shop.sh"
printf 'host = "example.org"\n' > shop/settings.py
printf 'colour = "red"\n' > shop/theme.py
commit "The shop"
git update-index --skip-worktree shop/settings.py
git update-index --assume-unchanged shop/theme.py
printf 'host = "my.machine"  # mine\n' > shop/settings.py
printf 'colour = "blue"  # mine\n' > shop/theme.py
printf 'private/\n' >> .git/info/exclude
mkdir private
printf 'only here\n' > private/diary.md
