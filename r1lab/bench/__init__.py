"""Speed, measured as ratios within one run: on two CPU cores and on a GPU."""
