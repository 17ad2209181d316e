"""Stands in for tools/train.py: writes a run folder in no time, and fails or stops half-way when told to.

A file ``behaviour.json`` in the working directory maps 'seed' to 'fail', 'cut' (leaves an unfinished
run, as a kill does), 'wait' (the same, once SIGTERM has come), 'silent' (exit 0 without an evaluation) or
'pointing_game' (the evaluation measures it).
"""
import argparse
import json
import signal
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))
from tests.fake_run import write_run  # noqa: E402

parser = argparse.ArgumentParser()
parser.add_argument('--cfg', required=True)
parser.add_argument('--seed', type=int, required=True)
parser.add_argument('--work-dir', type=Path, required=True)
parser.add_argument('--resume', nargs='?', const=True)
parser.add_argument('--no-test', action='store_true')
parser.add_argument('overrides', nargs='*')
args = parser.parse_intermixed_args()
with open('calls.jsonl', 'a') as stream:
    stream.write(json.dumps(sys.argv[1:]) + '\n')
if args.resume not in (None, True):
    sys.exit(f'--resume took {args.resume}')
if (args.work_dir / 'config.yaml').exists() and not args.resume:
    sys.exit('holds a run already')
told = Path('behaviour.json')
behaviour = json.loads(told.read_text()).get(str(args.seed)) if told.exists() else None
if behaviour == 'fail':
    sys.exit(1)
write_run(args.work_dir, seed=args.seed, images=60)
if behaviour in ('cut', 'wait') or behaviour == 'silent' or args.no_test:
    (args.work_dir / 'evaluation.json').unlink()
    (args.work_dir / 'predictions.csv').unlink()
if behaviour == 'pointing_game':
    path = args.work_dir / 'evaluation.json'
    played = {'energy': 0.6 + args.seed / 10, 'area': 0.49, 'images': 60, 'without': 0}
    path.write_text(json.dumps({**json.loads(path.read_text()), 'pointing_game': played}))
if behaviour == 'wait' and not args.resume:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(75))
    print('waits', flush=True)
    signal.pause()
sys.exit(137 if behaviour == 'cut' else 0)
