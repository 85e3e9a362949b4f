"""Train a model, distilled or plain.

    python tools/train.py configs/dist/retinanet_r50.py
"""
import argparse

from common import add_common_options, build_runner, load_config


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description='Train a model, distilled or plain')
    parser.add_argument('config', help='path of the config')
    parser.add_argument('--amp', action='store_true', help='train in automatic mixed precision')
    parser.add_argument(
        '--auto-scale-lr', action='store_true',
        help='scale the learning rate with the real batch size')
    parser.add_argument(
        '--resume',
        nargs='?',
        const='auto',
        help='go on from the given checkpoint, or without one from the latest in the work dir')
    add_common_options(parser)
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    config = load_config(args)
    if args.amp:
        config.optim_wrapper.type = 'AmpOptimWrapper'
        config.optim_wrapper.setdefault('loss_scale', 'dynamic')
    if args.auto_scale_lr:
        if 'base_batch_size' not in config.get('auto_scale_lr', {}):
            raise SystemExit(
                '--auto-scale-lr needs auto_scale_lr = dict(base_batch_size=...) in the config: '
                'the batch size, over all GPUs, that its learning rate was meant for')
        config.auto_scale_lr.enable = True
    if args.resume is not None:
        config.resume = True
        config.load_from = None if args.resume == 'auto' else args.resume
    build_runner(config).train()


if __name__ == '__main__':
    main()
