# A shop with a fault in one line, in a repository of its own. The other scenes begin with it.
mkdir -p shop
cat > shop/__init__.py </dev/null
cat > shop/price.py <<'END'
"""Prices."""


def total(prices):
    """Return the sum."""
    result = 0
    for price in prices:
        result += price
    return result


def discount(price, percent):
    """Return the price without so many percent."""
    return price - price * percent / 1000


def net(gross):
    """Return the price without the tax."""
    return gross / 1.19
END
cat > shop/words.py <<'END'
"""Words on labels."""


def shout(text):
    return text.upper() + "!"


def label(name, price):
    return f"{name}: {price:.2f}"
END
cat > test_price.py <<'END'
from shop.price import discount, net, total


def test_total():
    assert total([1, 2, 3]) == 6


def test_discount():
    assert discount(200, 10) == 180
    assert discount(50, 50) == 25


def test_net():
    assert round(net(119), 6) == 100
END
printf '__pycache__/\n.pytest_cache/\n*.local\nbuild/\n' > .gitignore

commit() {
    git add -A
    git commit -q -m "$1"
}
