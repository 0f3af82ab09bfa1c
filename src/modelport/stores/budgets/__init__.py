"""Budgets that several processes share. Each draws allotments from one bank and spends them by itself.

`bank` is what the processes say to the store and the store's arithmetic; `account` is what one process holds of one
budget in one day or month; `talk` asks the one for the other; `shared` is the port's implementation over any bank:
`stores.redis`, `stores.sqlite_budgets`, or a `MemoryBank` of the process that owns them.
"""

from modelport.stores.budgets.bank import Answer, Ask, Bank, MemoryBank, Sum
from modelport.stores.budgets.shared import SharedBudgets
from modelport.stores.budgets.talk import ANSWER_SECONDS, Seed, Seeds

__all__ = ["ANSWER_SECONDS", "Answer", "Ask", "Bank", "MemoryBank", "Seed", "Seeds", "SharedBudgets", "Sum"]
