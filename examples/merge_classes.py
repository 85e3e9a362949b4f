"""Give the classes of a COCO file other names, and join several to one.

    python examples/merge_classes.py data/bccd/annotations/instances_train.json \
        data/bccd_cells/train.json cell=RBC,WBC

Classes that are not named stay as they are. The new classes come first, in the order of the
command. Boxes, images and all else are those of the file.
"""
import argparse
import json
import os
from typing import Any, Dict, Sequence


def merge(data: Dict[str, Any], joins: Dict[str, Sequence[str]]) -> Dict[str, Any]:
    """Return the data of a COCO file, with the classes of ``joins`` (new: old names) joined.

    Raises:
        ValueError: If a class is not in the file, or in several new ones, or if a new name is that
            of a class that stays.
    """
    old = {one['name']: one['id'] for one in data['categories']}
    missing = [name for names in joins.values() for name in names if name not in old]
    if missing:
        raise ValueError(f'no class {missing[0]!r}; the file has {", ".join(old)}')
    joined = [name for names in joins.values() for name in names]
    if len(set(joined)) < len(joined) or set(joins) & (set(old) - set(joined)):
        raise ValueError('each class goes into one new class, whose name no other class has; got '
                         f'{joins}')
    of_old = {name: new for new, names in joins.items() for name in names}
    new = list(joins) + [name for name in old if name not in of_old]
    number = {old[name]: new.index(of_old.get(name, name)) + 1 for name in old}
    return dict(
        data,
        categories=[dict(id=place + 1, name=name) for place, name in enumerate(new)],
        annotations=[dict(one, category_id=number[one['category_id']])
                     for one in data['annotations']])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('source', help='COCO file')
    parser.add_argument('target', help='COCO file to write')
    parser.add_argument('joins', nargs='+', metavar='NEW=OLD,OLD', help='classes to join')
    args = parser.parse_args()
    pairs = [one.partition('=') for one in args.joins]
    if not all(new and names for new, _, names in pairs):
        parser.error(f'{" ".join(args.joins)}: write NEW=OLD,OLD, for instance cell=RBC,WBC')
    joins = {new: names.split(',') for new, _, names in pairs}
    with open(args.source, encoding='utf-8') as file:
        merged = merge(json.load(file), joins)
    os.makedirs(os.path.dirname(args.target) or '.', exist_ok=True)
    with open(args.target, 'w', encoding='utf-8') as file:
        json.dump(merged, file)


if __name__ == '__main__':
    main()
