# No repository: what is lost here is lost. A database, a table, a link, a file that may not be written.
mkdir -p ws && cd ws
. "$SCENES/shop.sh"
printf 'day,sum\n1,20\n2,31\n' > takings.csv
ln -s takings.csv latest.csv
python3 -I - <<'END'
import sqlite3

base = sqlite3.connect("orders.sqlite")
base.execute("create table orders (id integer primary key, what text)")
base.executemany("insert into orders (what) values (?)", [(f"order {n}",) for n in range(50)])
base.commit()
base.close()
END
mkdir scans
printf 'a receipt\n' > scans/receipt.txt
chmod 444 scans/receipt.txt
printf 'old = 1\n' > shop/unused_until_may.py
