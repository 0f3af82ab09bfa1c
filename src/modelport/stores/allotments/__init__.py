"""A quota that several processes share. Each draws allotments from one bank and spends them by itself.

`bank` is what the processes say to the store and the store's arithmetic; `account` is what one process holds of one
subject, and what calls take from it; `telling` is what it says to the store and learns from it; `quota` is the port's
implementation over any store of accounts: `stores.redis`, `stores.sqlite_quota`, or a `MemoryBank` of the process that
owns them.
"""

from modelport.stores.allotments.bank import Amount, Answer, Ask, Bank, MemoryBank, StoreGone
from modelport.stores.allotments.opening import keep_open
from modelport.stores.allotments.quota import SharedQuota

__all__ = ["Amount", "Answer", "Ask", "Bank", "MemoryBank", "SharedQuota", "StoreGone", "keep_open"]
