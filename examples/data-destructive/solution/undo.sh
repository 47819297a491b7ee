sed -i 's/percent \/ 100$/percent \/ 1000/' shop/price.py
