"""What everything stands on: errors, options, files, the ledger of results."""
