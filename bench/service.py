"""The service under load: eight clients for a minute, from a process of their own, beside `bonefrac predict` on a folder of the same images.

    python bench/service.py     (three minutes; drawn images, so that it runs anywhere)

What counts: no error, no growth of memory, and images a second against the command's.
"""
import argparse
import http.client
import io
import json
import re
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from harness import save
from PIL import Image

from bonefrac.phantoms import phantom

BONEFRAC = Path(sys.executable).with_name('bonefrac')
FILMS = 120


def draw(folder):
    for i in range(FILMS): Image.fromarray(phantom(seed=i, size=640).pixels).save(folder/f'{i:03}.jpg', quality=92)


def command_rate(folder):
    "Images a second of `bonefrac predict`, between the first answer and the last"
    process = subprocess.Popen([BONEFRAC, 'predict', folder, '--no-input-check', '--format', 'json', '--quiet'], stdout=subprocess.PIPE, text=True)
    times = [time.perf_counter() for _ in process.stdout]
    process.wait()
    return (len(times) - 1) / (times[-1] - times[0])


def body(content):
    head = b'--images\r\nContent-Disposition: form-data; name="files"; filename="image.jpg"\r\nContent-Type: image/jpeg\r\n\r\n'
    return head + content + b'\r\n--images--\r\n'


def load(host, port, folder, clients, seconds):
    "What `clients` threads see, each sending one image after the other; runs in a process of its own"
    bodies, ends, times, errors = [body(p.read_bytes()) for p in sorted(folder.iterdir())], time.time() + seconds, [], []
    def client(i):
        connection, n = http.client.HTTPConnection(host, port, timeout=60), i
        while time.time() < ends:
            began = time.time()
            connection.request('POST', '/predict?unchecked=true', bodies[n % len(bodies)], {'Content-Type': 'multipart/form-data; boundary=images'})
            answer = connection.getresponse(); answer.read()
            if answer.status != 200: errors.append(answer.status)
            times.append((began, time.time())); n += 1
    threads = [threading.Thread(target=client, args=(17 * i,)) for i in range(clients)]
    for t in threads: t.start()
    for t in threads: t.join()
    print(json.dumps(dict(times=times, errors=errors)))


def resident(pid): return int(re.search(r'VmRSS:\s+(\d+)', Path(f'/proc/{pid}/status').read_text())[1]) / 1024


def measure(folder, clients, seconds):
    server = subprocess.Popen([BONEFRAC, 'serve', '--port', '0'], stderr=subprocess.PIPE, text=True)
    host, port = re.search(r'http://([\d.]+):(\d+)', server.stderr.readline()).groups()
    threading.Thread(target=server.stderr.read, daemon=True).start()
    run = lambda s: subprocess.Popen([sys.executable, __file__, '--load', host, port, folder, str(clients), str(s)], stdout=subprocess.PIPE, text=True)
    warm = run(3); warm.communicate()
    began, process, memory = time.time(), run(seconds), []
    while process.poll() is None: memory.append((time.time() - began, resident(server.pid))); time.sleep(.5)
    seen = json.loads(process.stdout.read())
    server.terminate(); server.wait()
    waits = sorted(b - a for a, b in seen['times'])
    part = lambda low, high: [m for t, m in memory if low <= t < high]
    first, last = part(0, seconds / 3), part(seconds * 2 / 3, seconds)
    return dict(clients=clients, seconds=seconds, images=len(waits), errors=len(seen['errors']), images_per_second=round(len(waits) / (max(b for _, b in seen['times']) - min(a for a, _ in seen['times'])), 2), median_s=round(waits[len(waits) // 2], 3),
                p99_s=round(waits[int(.99 * len(waits))], 3), mb_first_third=round(max(first), 1), mb_last_third=round(max(last), 1))


parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument('--load', nargs=5, help=argparse.SUPPRESS)
given = parser.parse_args().load
if given: load(given[0], int(given[1]), Path(given[2]), int(given[3]), float(given[4])); sys.exit()
with tempfile.TemporaryDirectory() as tmp:
    draw(Path(tmp))
    before, loaded, after = command_rate(tmp), measure(tmp, 8, 60), command_rate(tmp)
rate = (before + after) / 2
save('service', command_images_per_second=[round(before, 2), round(after, 2)], share_of_command=round(loaded['images_per_second'] / rate, 3), **loaded)
