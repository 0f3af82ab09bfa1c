"""Brings the journals' closed lines into the ledger: `tail` reads them, `shipper` moves them on a thread of its own,
`retention` removes files whose every call is in the ledger. None of them knows a database: they get a ledger to fill.
"""
