#!/bin/sh
# The big comparison on Cluttered Fashion: base, STN, CRA-CNN, WARN and its ablations, then accuracy by distractors.
#   sh studies/cluttered_fashion.sh [--plan]      # what is done is kept; run it again to go on
# About two core-hours a seed. With the clothing of Debian's package dataset-fashion-mnist.
set -e
cd "$(dirname "$0")/.."
seeds="0 1"
python tools/study.py --name cluttered_fashion --seeds $seeds --evaluate "$@" \
  --cfg configs/warn/cluttered_fashion_base.yaml configs/stn/cluttered_fashion_stn.yaml \
  configs/cra_cnn/cluttered_fashion_cra.yaml configs/warn/cluttered_fashion.yaml
python tools/study.py --name cluttered_fashion --seeds $seeds --evaluate "$@" \
  --cfg configs/warn/cluttered_fashion.yaml --variant ad1-aw1 method.depth=1 method.width=1 \
  --variant ad2-aw1 method.depth=2 method.width=1 --variant ad3-aw1 method.depth=3 method.width=1 \
  --variant ad4-aw1 method.width=1 --variant ad4-aw2 method.width=2 --variant no-gates method.gates=false \
  --variant sigmoid method.mask=sigmoid --variant linear method.combine=linear \
  --variant blocked method.block_gradient=true
case " $* " in *" --plan "*) exit 0;; esac
work=work_dirs/study/cluttered_fashion
for seed in $seeds; do  # 3: the correlation is below the target, which is a result
  python tools/benchmark.py stn_window --run "$work/cluttered_fashion_stn/seed$seed" || [ $? -eq 3 ]
done
python tools/sweep.py --key data.distractors --values 4 8 16 32 64 --out docs/figures/clutter_fashion \
  "without attention=$work/cluttered_fashion_base/seed*" "STN=$work/cluttered_fashion_stn/seed*" \
  "CRA-CNN=$work/cluttered_fashion_cra/seed*" "WARN=$work/cluttered_fashion/seed*"
