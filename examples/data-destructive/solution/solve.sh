sed -i 's/percent \/ 1000$/percent \/ 100/' shop/price.py
