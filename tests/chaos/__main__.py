"""``python -m tests.chaos --tool label-studio --operations 2000 --seed 1``."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from chaos.main import main

raise SystemExit(main())
