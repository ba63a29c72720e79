"What the measurements in this folder share: results as JSON beside them, peers in environments of their own"
import json
import os
import platform
import subprocess
import sys
import time
from pathlib import Path

RESULTS = Path(__file__).parent/'results'


def cores(): return len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count()


def machine():
    "The processor, and the widest vector units that it shows"
    info = Path('/proc/cpuinfo')
    lines = dict(line.split(':', 1) for line in info.read_text().split('\n\n')[0].splitlines() if ':' in line) if info.exists() else {}
    lines = {k.strip(): v.strip() for k, v in lines.items()}
    units = next((name for flag, name in (('amx_bf16', 'AMX'), ('avx512_bf16', 'AVX-512 BF16'), ('avx512f', 'AVX-512'), ('avx2', 'AVX2')) if flag in lines.get('flags', '').split()), '')
    return ', '.join(filter(None, (lines.get('model name', platform.processor() or platform.machine()), units)))


def save(name, **result):
    "Write bench/results/NAME.json with what it was measured on"
    RESULTS.mkdir(exist_ok=True)
    result = dict(measured=time.strftime('%Y-%m-%d'), cores=cores(), machine=machine(), python=platform.python_version(), **result)
    (RESULTS/f'{name}.json').write_text(json.dumps(result, indent=1) + '\n', encoding='utf-8')
    print(json.dumps(result, indent=1))


def peer_python(name, *packages, folder=Path(__file__).parents[1]/'.bench'):
    "The interpreter of an environment that holds only these packages"
    python = folder/name/'bin'/'python'
    if not python.exists():
        subprocess.run([sys.executable, '-m', 'uv', 'venv', '-q', '--python', sys.executable, folder/name], check=True)
        subprocess.run([sys.executable, '-m', 'uv', 'pip', 'install', '-q', '--python', python, *packages], check=True)
    return python.absolute()


def measured(command, **kwargs):
    "(seconds, peak MB, standard output) of a process"
    start = time.perf_counter()
    done = subprocess.run(['/usr/bin/env', sys.executable, '-c', _WATCH, *map(str, command)], capture_output=True, text=True, check=False, **kwargs)
    if done.returncode: raise SystemExit(f'{command}: {done.stderr[-2000:]}')
    *out, peak = done.stdout.splitlines()
    return round(time.perf_counter() - start, 1), round(int(peak) / 1e3), '\n'.join(out)


_WATCH = '''
import resource, subprocess, sys
code = subprocess.call(sys.argv[1:])
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
sys.exit(code)
'''


def need_data(*names):
    "The folder of real images, or a plain word that it is missing"
    root = Path(os.environ.get('BONEFRAC_DATA', 'nowhere'))
    missing = [n for n in names if not (root/n).is_dir()]
    if missing: raise SystemExit(f"set BONEFRAC_DATA to a folder that holds {', '.join(missing)}")
    return root
