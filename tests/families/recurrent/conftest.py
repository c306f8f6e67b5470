"""Nothing to be tested where transformers is too old for these families: then they are refused (families/releases)."""

import tiny

collect_ignore_glob = [] if tiny.RECURRENT else ["test_*.py"]
