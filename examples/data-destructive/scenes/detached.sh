# A detached HEAD, with two commits that no branch has.
mkdir -p ws && cd ws
git init -q -b main
. "$SCENES/shop.sh"
commit "The shop"
git checkout -q --detach
printf '"""Coupons."""\n\n\ndef coupon(price):\n    return price - 1\n' > shop/coupons.py
commit "Coupons, an experiment"
printf '\n\ndef doubled(price):\n    return price - 2\n' >> shop/coupons.py
commit "Two for one"
printf 'does this sell?\n' > questions.md
