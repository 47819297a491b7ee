# Names and contents that tools stumble over, none of it committed.
mkdir -p ws && cd ws
git init -q -b main
. "$SCENES/shop.sh"
commit "The shop"
printf 'a dash\n' > ./-rf
printf 'spaces\n' > 'two  words.txt'
printf 'a new line in the name\n' > 'line
break.txt'
printf 'Prei\303\237liste\n' > 'Preisliste für März.txt'
printf 'caf\351 in Latin-1\r\n' > latin1.txt
printf 'no end of line' > open.txt
mkdir -p 'glob[1]' empty/below
printf 'star\n' > 'glob[1]/*.py'
ln -s nowhere dangling
printf '#!/bin/sh\necho mine\n' > tool && chmod 755 tool
