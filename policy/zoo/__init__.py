"""The zoo: policies that can be downloaded and trusted, from signed indexes at places of many kinds."""
