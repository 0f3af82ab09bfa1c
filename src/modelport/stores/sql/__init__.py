"""The database: the ledger, on SQLite in the data directory or on PostgreSQL.

`address` says which database; `schema` is its tables, `migrations` how they came to be, `database` opens and upgrades.
`rows` turns records into rows and sums and back, `ledger` writes them, `reports` answers questions from roll-ups, and
`audit` checks all of it. Only `address` is free of SQLAlchemy: whoever serves no database imports nothing else.
"""
