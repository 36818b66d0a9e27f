"""``python -m ddpm_ref`` is the command ``ddpm-ref``."""

from ddpm_ref.cli import main

if __name__ == "__main__":
    main()
