from .ledger import Kind as Kind, Verdict as Verdict, load as load
from .recording import record as record
