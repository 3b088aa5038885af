"""How fast it is: ratios, each measured side by side in one run on the devcluster. `make bench`."""
