"""Train the topical monitor, the second judgement that the reasoner asks for, and the score from which it is asked.

    python scripts/train_topical.py [--data FOLDER] [--more FOLDER]

Needs the extra `train`. The logistic and that score are fitted on texts whose source the scoring model had not seen
(guard_folds.py); the model that is written has then learnt from all sources. Writes topical.bin and reasoner.json in
src/lathe/guard. The same data and the same versions of numpy, scipy and scikit-learn give the same files.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import msgspec
from guard_corpus import DATA, MORE, lessons
from guard_folds import calibrated, folds, passes
from guard_learning import calibrated as with_logistic
from guard_learning import counted, learn

from lathe.guard import reasoner, topical


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--more", type=Path, default=MORE)
    parser.add_argument("--most", type=int, default=600)
    options = parser.parse_args()
    texts, found = folds(options.data, options.more, options.most)
    for source, rows in texts.items():
        print(f"{source:32} {len(rows):6}")
    held = [one for fold in found for one in fold.held]
    with_logistic(learn(counted(lessons(texts))), held).write(topical.SHIPPED)
    fitted = reasoner.Fitted(round(passes(calibrated(found)), 5))
    reasoner.SHIPPED.write_bytes(msgspec.json.encode(fitted) + b"\n")
    for path in (topical.SHIPPED, reasoner.SHIPPED):
        print(f"{path}: {path.stat().st_size:,} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
