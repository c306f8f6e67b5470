"""Nothing to be measured where transformers is too old for these families (families/releases)."""

import tiny

collect_ignore_glob = [] if tiny.RECURRENT else ["test_*.py"]
