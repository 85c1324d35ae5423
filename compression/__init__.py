"""What can be chosen: techniques, sites, search space, plans, the variant bank, the real network."""

if __name__ == "compression":
    # Python 3.14 has a standard package of this name, and a checkout as the working directory hides it.
    import sysconfig

    __path__ = [f"{sysconfig.get_path('stdlib')}/compression"]
