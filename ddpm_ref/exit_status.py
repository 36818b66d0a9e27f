"""What ``ddpm-ref`` exits with: everything held, a law violated, wrong usage, interrupted."""

OK, VIOLATED, USAGE, INTERRUPTED = 0, 1, 2, 130
