"""Filters: which events a subscription wants, asked of every event, live and replayed; no I/O.

The text goes one way: `language` reads it into nodes, `patterns` compiles what matches text, `code` turns the nodes
into one Python function, and `filter` is what others hold of it. A `Candidate` is an event that is asked about; its
data are decoded once, by the first filter that looks into them. `values` says how JSON values compare.

Where the contract leaves a choice, the reading is the most literal one:

| in question | answer |
|---|---|
| a bare object | a value for `$eq`, `{}` too, unless one of its keys begins with `$`: then all must be operators |
| keys of an operand | are data: `{"$eq": {"$x": 1}}` looks for an object with the key `$x` |
| a key with a dot | is not reached: a dot always parts two keys |
| an empty path, or an empty part of one | refused |
| a path that begins with none of the event's fields | is missing in every event |
| a number in a path | indexes a list (`0`, `1` …; not `-1`, not `01`); in an object it is a key; a text has no parts |
| `null` | is there: it satisfies `$exists: true`, and `$eq: null`, which a missing path does not |
| `$not` under a path | is the same as around it, so a missing path satisfies `$not: {"$gt": 1}` |
| `$and`, `$or` under a path | refused, as are operators without a path |
| `{}` in `$and`, `$or`, `$not` | matches all there too; a set of operators cannot be empty |
| a list of filters | has 32 at most, as `{}` has no nodes to count |
| `$gt`, `$gte`, `$lt`, `$lte` | any operand but a number or a string is refused; strings compare by code point |
| `$in`, `$nin` | want a list, maybe an empty one; in a list that an event holds, `$contains` looks |
| `$exists` | wants `true` or `false` |
| `$contains` | takes any value; only a string is found in a string, and an object contains nothing |
| `$wildcard`, `$regex` | want a string; `*` and `?` cannot be escaped; neither matches a number |
| numbers | compare exactly, however large; `true` equals no number, in lists and objects neither |
| a key twice in an object of a filter | refused: one of the two would be lost |
| levels | a path, an operator, `$and`, `$or`, `$not`: each is one below what it stands in; operands have none |
| depth of operands | the lists and objects of a filter's JSON, operands included, may nest 64 deep |
| a node written twice | counts twice |
| data that cannot be decoded | have no paths |
"""

from router.filters.candidate import Candidate as Candidate
from router.filters.filter import Filter as Filter
from router.filters.filter import Line as Line
from router.filters.filter import compile as compile  # noqa: A004 - read as `filters.compile`
from router.filters.language import FilterError as FilterError
