"""What a package cannot bring along is fetched: a browser, the Nu Html Checker, the embedded model."""
