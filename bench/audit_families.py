"""Are rotated families found from the pictures alone?

The files of the multi-region set are copied under random names, so that nothing but their content is left, and
audited. What is found is compared with the published names: `N-rotatedA-rotatedB.jpg` in one class folder is
one family. A pair of files counts as found when the audit gives both the same radiograph.

    BONEFRAC_DATA=... python bench/audit_families.py
"""
import re
import shutil
import tempfile
import uuid
from collections import Counter
from pathlib import Path

from harness import need_data, save

from bonefrac.audit import audit
from bonefrac.datasets import image_files, images_table


def family(path):
    "not fractured/69-rotated1.jpg -> 'not fractured/69', '' for a file that is no rotated copy"
    found = re.match(r'(\d+)-rotated', path.name)
    return f'{path.parent.name}/{found[1]}' if found else ''


def pairs(counts): return sum(n * (n - 1) // 2 for n in counts)


def scores(named, found):
    "(recall, precision) over pairs of files"
    together = pairs(Counter(zip(named, found)).values())
    return together / pairs(Counter(named).values()), together / pairs(Counter(found).values())


def unite(named, again):
    "Give families that are one radiograph one name"
    def last(name):
        while name in again: name = again[name]
        return name
    return [last(n) for n in named]


with tempfile.TemporaryDirectory() as folder:
    rows = []
    for path in image_files(need_data('multiregion')/'multiregion'):
        copy = Path(folder)/f'{uuid.uuid4().hex}{path.suffix}'
        shutil.copy(path, copy)
        rows.append(dict(path=str(copy), family=family(path), name=path.name))
    images = audit(images_table(rows), Path(folder)/'signatures.sqlite').images

known = images[images.usable & (images.family != '')]
recall, precision = scores(known.family, known.radiograph_id)
merged = {tuple(sorted(set(part.family))): len(part) for _, part in known.groupby('radiograph_id') if part.family.nunique() > 1}
torn = [name for name, part in known.groupby('family') if part.radiograph_id.nunique() > 1]
again = {other: names[0] for names in merged for other in names[1:]}
united_recall, united_precision = scores(unite(known.family, again), known.radiograph_id)
save('audit_families', images=len(images), in_families=len(known), families=known.family.nunique(),
     recall=round(recall, 4), precision=round(precision, 4),
     families_found_to_be_one_radiograph=[list(names) for names in merged], families_torn=torn,
     recall_with_these_united=round(united_recall, 4), precision_with_these_united=round(united_precision, 4))
