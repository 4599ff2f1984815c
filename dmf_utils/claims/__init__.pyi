from .ledger import Verdict as Verdict, load as load
from .recording import record as record
