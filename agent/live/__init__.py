"""One live account: keys, preflight checks, recovery, redemption, promotion, market recorder."""
