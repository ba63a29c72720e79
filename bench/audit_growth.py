"""Time and memory of an audit for one, two, four and eight thousand phantoms, each in a process of its own.

    python bench/audit_growth.py
"""
import json
import sys
import tempfile
from pathlib import Path

from harness import measured, save

from bonefrac.phantoms import phantom_dataset

MEASURED = '''
import json, sys, warnings; warnings.filterwarnings('ignore')
from pathlib import Path
from bonefrac.audit import audit
found = audit(sys.argv[1], sys.argv[2], quiet=True)
print(json.dumps(dict(seconds=found.seconds, radiographs=found.summary['radiographs'], MB_on_disk=round(Path(sys.argv[2]).stat().st_size / 1e6))))
'''

runs = []
with tempfile.TemporaryDirectory() as folder:
    images, _ = phantom_dataset(8000, f'{folder}/images')
    for n in (1000, 2000, 4000, 8000):
        images.head(n).to_csv(f'{folder}/{n}.csv', index=False)
        _, peak, out = measured([sys.executable, '-c', MEASURED, f'{folder}/{n}.csv', f'{folder}/{n}.sqlite'])
        runs.append(dict(images=n, **json.loads(out), peak_MB=peak))
        Path(f'{folder}/{n}.sqlite').unlink()
save('audit_growth', runs=runs)
