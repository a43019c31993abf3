"""`python -m eventstore`."""

from eventstore.cli import main

if __name__ == "__main__":
    main()
