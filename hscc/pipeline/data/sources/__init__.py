"""Where the bytes of the data set come from, and the hash that proves them."""
