#!/usr/bin/env python3
"""Labels instances of small schemas with the library `jsonschema` and writes
tests/unit/text/grammar/schema_cases.json: [{"schema": ..., "valid": [...], "invalid": [...]}, ...].

    pip install jsonschema==4.26.0
    make_schema_cases.py OUT_FILE
"""

import json
import sys

import jsonschema

SCALARS = [None, True, False, 0, 1, -1, 2, 3, 5, 7, 10, 12, 15, 99, 100, 101, -10, -100, 2.5, 0.5, -2.5, 3.25,
 0.1, 1000.0, 12345678901234567890, '', 'a', 'b', 'ab', 'abc', 'abcd', 'é', '日本語', 'a"b', 'x\\y',
 'line\nend', '😀', '😀😀', '123', 'a1', 'A-1', 'foo', 'bar', 'foobar']
ARRAYS = [[], [1], [1, 2], [1, 2, 3], [1, 2, 3, 4], ['a'], ['a', 'b'], [1, 'a'], ['a', 1], [None],
 [[1], [2]], [[]], [{}], [{'a': 1}], [5, 6, 7, 8, 9, 10], [1, 1], ['a', 1, True], ['a', 1, None],
 [3, 100, 'x'], [100, 100]]
OBJECTS = [{}, {'a': 1}, {'a': 'x'}, {'a': 1, 'b': 2}, {'a': 1, 'b': 'x'}, {'b': 2}, {'b': 'x'}, {'c': 3},
 {'a': 1, 'c': 3}, {'a': 1, 'b': 2, 'c': 3}, {'a': 1, 'zzz': True}, {'x1': 1}, {'x1': 's'},
 {'a': None}, {'a': {'a': 1}}, {'a': {'a': {'a': {}}}}, {'a': 1, 'x1': 2, 'y': 'z'},
 {'kind': 'cat', 'meow': 1}, {'kind': 'dog', 'bark': 1}, {'kind': 'cat', 'bark': 'x'},
 {'kind': 'cow'}, {'foo': 1, 'bar': 2}, {'é': 1}, {'a': [1, 2]}, {'a': ['x']},
 {'value': 1, 'next': None}, {'value': 1, 'next': {'value': 2, 'next': None}},
 {'value': 1, 'next': {'value': 'x', 'next': None}}, {'aa': 1, 'ab': 2}]
POOL = SCALARS + ARRAYS + OBJECTS

SCHEMAS = [True, {}, {'title': 'only remarks', 'description': 'x'}, {'type': 'null'}, {'type': 'boolean'},
 {'type': 'integer'}, {'type': 'number'}, {'type': 'string'}, {'type': 'array'}, {'type': 'object'},
 {'type': ['string', 'null']}, {'type': ['integer', 'array']},
 {'enum': [1, 'a', None, True, [1, 2], {'a': 1}]}, {'const': {'a': 1, 'b': 'x'}},
 {'const': [1, 'a']}, {'const': 2.5}, {'enum': ['abc', 'abcd', 'é', 'a"b']},
 {'not': {'enum': [1, 'a', [1], {'a': 1}]}}, {'type': 'integer', 'minimum': 2, 'maximum': 100},
 {'type': 'number', 'exclusiveMinimum': -2.5}, {'type': 'number', 'exclusiveMaximum': 2.5},
 {'type': 'integer', 'minimum': -10, 'exclusiveMaximum': 12},
 {'type': 'number', 'minimum': 0.5, 'maximum': 3.25}, {'type': 'integer', 'maximum': -1},
 {'$schema': 'http://json-schema.org/draft-04/schema#',
  'type': 'number',
  'minimum': 2,
  'exclusiveMinimum': True},
 {'minimum': 3}, {'type': 'integer', 'multipleOf': 5}, {'type': 'number', 'multipleOf': 0.25},
 {'type': 'integer', 'minimum': 10, 'not': {'multipleOf': 5}},
 {'type': 'integer', 'anyOf': [{'maximum': 1}, {'minimum': 100}]},
 {'type': 'string', 'minLength': 2}, {'type': 'string', 'maxLength': 2},
 {'minLength': 1, 'maxLength': 3}, {'type': 'string', 'minLength': 2, 'maxLength': 2},
 {'type': 'string', 'pattern': '^a'}, {'type': 'string', 'pattern': 'b$'},
 {'type': 'string', 'pattern': '[0-9]'}, {'type': 'string', 'pattern': '^[a-z]+$', 'maxLength': 3},
 {'type': 'string', 'not': {'pattern': '^foo'}}, {'type': 'string', 'pattern': '^(foo|bar)+$'},
 {'type': 'string', 'allOf': [{'pattern': 'a'}, {'pattern': 'b'}]},
 {'type': 'string', 'pattern': '^(?!foo)[a-z]+$'}, {'type': 'string', 'pattern': '^[a-z0-9]{2,3}$'},
 {'type': 'array', 'items': {'type': 'integer'}}, {'type': 'array', 'minItems': 2},
 {'type': 'array', 'maxItems': 2},
 {'type': 'array', 'minItems': 2, 'maxItems': 3, 'items': {'type': ['integer', 'string']}},
 {'type': 'array', 'items': {'maximum': 9}, 'minItems': 6},
 {'type': 'array',
  'prefixItems': [{'type': 'string'}, {'type': 'integer'}],
  'items': {'type': 'boolean'}},
 {'type': 'array', 'prefixItems': [{'type': 'string'}, {'type': 'integer'}], 'items': False},
 {'$schema': 'http://json-schema.org/draft-07/schema#',
  'type': 'array',
  'items': [{'type': 'integer'}, {'type': 'string'}],
  'additionalItems': False},
 {'type': 'array', 'contains': {'const': 1}},
 {'type': 'array', 'contains': {'type': 'integer'}, 'minContains': 2},
 {'type': 'array', 'contains': {'minimum': 100}, 'maxContains': 1},
 {'$schema': 'http://json-schema.org/draft-06/schema#',
  'type': 'array',
  'contains': {'type': 'string'}},
 {'type': 'array', 'not': {'items': {'type': 'integer'}}},
 {'type': 'array', 'not': {'contains': {'const': 1}}},
 {'type': 'array', 'uniqueItems': True, 'maxItems': 1},
 {'type': 'array', 'items': {'type': 'array', 'maxItems': 1}},
 {'type': 'object', 'properties': {'a': {'type': 'integer'}}},
 {'type': 'object', 'properties': {'a': {'type': 'integer'}}, 'required': ['a']},
 {'type': 'object', 'properties': {'a': {'type': 'integer'}}, 'additionalProperties': False},
 {'type': 'object',
  'properties': {'a': {'type': 'integer'}},
  'additionalProperties': {'type': 'string'}},
 {'type': 'object', 'required': ['a', 'b']},
 {'type': 'object',
  'properties': {'a': {'type': 'integer'}, 'b': {'type': 'integer'}},
  'required': ['b']},
 {'type': 'object',
  'patternProperties': {'^x': {'type': 'integer'}},
  'additionalProperties': False},
 {'type': 'object', 'patternProperties': {'^x': {'type': 'integer'}, '1$': {'minimum': 1}}},
 {'type': 'object', 'properties': {'a': True}, 'patternProperties': {'^a': {'type': 'integer'}}},
 {'type': 'object', 'propertyNames': {'maxLength': 1}},
 {'type': 'object', 'propertyNames': {'enum': ['a', 'b']}}, {'type': 'object', 'minProperties': 1},
 {'type': 'object', 'maxProperties': 1},
 {'type': 'object',
  'properties': {'a': {}, 'b': {}, 'c': {}},
  'additionalProperties': False,
  'minProperties': 2},
 {'type': 'object', 'properties': {'a': {}, 'b': {}}, 'maxProperties': 1},
 {'type': 'object', 'dependentRequired': {'a': ['b']}},
 {'$schema': 'http://json-schema.org/draft-04/schema#',
  'type': 'object',
  'dependencies': {'a': ['b']}},
 {'$schema': 'http://json-schema.org/draft-07/schema#',
  'type': 'object',
  'dependencies': {'a': {'properties': {'b': {'type': 'string'}}, 'required': ['b']}}},
 {'type': 'object', 'dependentSchemas': {'kind': {'required': ['meow']}}},
 {'type': 'object', 'not': {'required': ['a']}},
 {'type': 'object', 'not': {'properties': {'a': {'type': 'integer'}}}},
 {'type': 'object', 'not': {'additionalProperties': {'type': 'integer'}}},
 {'type': 'object', 'not': {'patternProperties': {'^x': {'type': 'string'}}}},
 {'type': 'object', 'not': {'propertyNames': {'maxLength': 1}}},
 {'anyOf': [{'type': 'string'}, {'type': 'integer', 'minimum': 5}]},
 {'oneOf': [{'type': 'integer'}, {'minimum': 2}]},
 {'oneOf': [{'type': 'string'}, {'type': 'null'}]},
 {'oneOf': [{'required': ['a']}, {'required': ['b']}], 'type': 'object'},
 {'oneOf': [{'type': 'object',
             'properties': {'kind': {'const': 'cat'}, 'meow': {'type': 'integer'}},
             'required': ['kind']},
            {'type': 'object',
             'properties': {'kind': {'const': 'dog'}, 'bark': {'type': 'integer'}},
             'required': ['kind']}]},
 {'allOf': [{'type': 'object', 'properties': {'a': {'type': 'integer'}}}, {'required': ['b']},
            {'properties': {'b': {'type': 'string'}}}]},
 {'allOf': [{'type': ['string', 'integer']}, {'type': ['integer', 'null']}]},
 {'allOf': [{'type': 'array', 'minItems': 1}, {'items': {'type': 'integer'}}, {'maxItems': 2}]},
 {'not': {'type': ['string', 'object', 'array']}},
 {'not': {'anyOf': [{'type': 'number'}, {'type': 'string'}]}},
 {'if': {'type': 'integer'}, 'then': {'minimum': 5}, 'else': {'type': 'string'}},
 {'type': 'object',
  'if': {'properties': {'kind': {'const': 'cat'}}, 'required': ['kind']},
  'then': {'required': ['meow']},
  'else': {'required': ['a']}},
 {'if': {'type': 'integer'}, 'else': {'type': 'null'}},
 {'not': {'if': {'type': 'integer'}, 'then': {'minimum': 5}}},
 {'$ref': '#/$defs/x', '$defs': {'x': {'type': 'integer'}}},
 {'$ref': '#/$defs/x', 'minimum': 5, '$defs': {'x': {'type': 'integer'}}},
 {'$schema': 'http://json-schema.org/draft-07/schema#',
  '$ref': '#/definitions/x',
  'minimum': 5,
  'definitions': {'x': {'type': 'integer'}}},
 {'$ref': '#foo', '$defs': {'x': {'$anchor': 'foo', 'type': 'array'}}},
 {'$id': 'https://example.com/root.json',
  '$ref': 'part.json',
  '$defs': {'x': {'$id': 'part.json', 'type': 'string'}}},
 {'$ref': '#/$defs/node',
  '$defs': {'node': {'type': 'object',
                     'properties': {'value': {'type': 'integer'},
                                    'next': {'anyOf': [{'type': 'null'},
                                                       {'$ref': '#/$defs/node'}]}},
                     'required': ['value', 'next'],
                     'additionalProperties': False}}},
 {'type': 'object', 'properties': {'a': {'$ref': '#'}}, 'additionalProperties': False},
 {'type': 'object', 'properties': {'é': {'type': 'integer'}}, 'required': ['é']},
 {'type': 'object', 'properties': {'a': {'type': 'integer'}}, 'unevaluatedProperties': False},
 {'allOf': [{'type': 'object', 'properties': {'a': {'type': 'integer'}}}],
  'properties': {'b': True},
  'type': 'object',
  'unevaluatedProperties': False},
 {'type': 'array', 'prefixItems': [True], 'unevaluatedItems': {'type': 'string'}},
 {'$schema': 'https://json-schema.org/draft/2019-09/schema',
  'type': 'array',
  'items': [{'type': 'integer'}],
  'additionalItems': {'type': 'string'}},
 {'type': 'object',
  'properties': {'a': {'minimum': 1, 'type': 'integer'}},
  'patternProperties': {'a': {'maximum': 1}},
  'additionalProperties': {'type': 'boolean'}},
 {'$dynamicAnchor': 'node',
  'type': 'object',
  'properties': {'a': {'$dynamicRef': '#node'}},
  'additionalProperties': False},
 {'$id': 'https://example.com/root.json',
  '$ref': 'part.json',
  '$defs': {'x': {'$dynamicAnchor': 'item', 'type': 'string'},
            'w': {'$id': 'other.json', '$dynamicAnchor': 'item'},
            'y': {'$id': 'part.json',
                  'type': 'array',
                  'items': {'$dynamicRef': '#item'},
                  '$defs': {'z': {'$anchor': 'item', 'type': 'integer'}}}}},
 {'$schema': 'https://json-schema.org/draft/2019-09/schema',
  '$recursiveAnchor': True,
  'type': 'object',
  'properties': {'a': {'$recursiveRef': '#'}},
  'additionalProperties': False}]

DRAFT_4, DRAFT_6, DRAFT_7 = (f'http://json-schema.org/draft-0{n}/schema#' for n in (4, 6, 7))
DRAFT_2019, DRAFT_2020 = (f'https://json-schema.org/draft/{d}/schema' for d in ('2019-09', '2020-12'))

# Words that a draft does not have yet, or no longer.
SINCE_2020 = {'prefixItems': [False], '$dynamicRef': '#none'}
SINCE_2019 = SINCE_2020 | {
    'dependentRequired': {'a': ['zzz']}, 'dependentSchemas': {'b': False}, 'minContains': 3,
    'maxContains': 0, 'unevaluatedItems': False, 'unevaluatedProperties': False,
    '$recursiveRef': '#/none'}
SINCE_7 = SINCE_2019 | {'if': True, 'then': False}
SINCE_6 = SINCE_7 | {'const': 0, 'contains': False, 'propertyNames': False}
UNTIL_7 = {'dependencies': {'a': ['zzz']}}

SCHEMAS += [
 {'$schema': DRAFT_4} | SINCE_6, {'$schema': DRAFT_6} | SINCE_7, {'$schema': DRAFT_7} | SINCE_2019,
 {'$schema': DRAFT_2019} | SINCE_2020 | UNTIL_7,
 {'$schema': DRAFT_2020, '$recursiveRef': '#/none'} | UNTIL_7, UNTIL_7,
 {'$schema': DRAFT_6, 'const': 1},
 {'$schema': DRAFT_6, 'type': 'array', 'contains': {'type': 'integer'}, 'minContains': 2},
 {'$schema': DRAFT_6, 'type': 'object', 'propertyNames': {'maxLength': 1}},
 {'$schema': DRAFT_6, 'type': 'object', 'dependencies': {'a': ['b']}},
 {'$schema': DRAFT_7, 'if': {'type': 'integer'}, 'then': {'minimum': 5}},
 {'$schema': DRAFT_7, 'type': 'array', 'contains': {'minimum': 2}, 'maxContains': 1},
 {'$schema': DRAFT_2019, 'type': 'array', 'contains': {'minimum': 2}, 'maxContains': 1},
 {'$schema': DRAFT_2019, 'type': 'object', 'dependentRequired': {'a': ['b']}},
 {'$schema': DRAFT_2019, 'dependentSchemas': {'kind': {'required': ['meow']}}},
 {'$schema': DRAFT_2019, 'properties': {'a': True}, 'unevaluatedProperties': False},
 {'$schema': DRAFT_2019, 'items': [True], 'unevaluatedItems': {'type': 'string'}},
 {'$schema': DRAFT_2020, 'type': 'array', 'prefixItems': [{'type': 'string'}], 'items': False},
 {'$schema': DRAFT_4, 'type': 'array', 'items': [{'type': 'integer'}], 'additionalItems': False},
 {'$schema': DRAFT_4, 'maximum': 10, 'exclusiveMaximum': True, 'minimum': 2,
  'exclusiveMinimum': False},
 {'$schema': DRAFT_6, 'exclusiveMinimum': 2, 'exclusiveMaximum': 100},
 {'$schema': DRAFT_4,
  'properties': {'a': {'id': 'https://example.com/b/', '$ref': '#/definitions/x'}},
  'definitions': {'x': {'type': 'integer'}}},
 {'$schema': DRAFT_7,
  '$id': 'https://example.com/root.json',
  'properties': {'a': {'$id': 'https://example.com/b/', '$ref': '#/definitions/x'}},
  'definitions': {'x': {'type': 'integer'}}},
 {'$schema': DRAFT_7,
  '$id': 'https://example.com/root.json',
  'properties': {'a': {'$ref': 'x.json'}},
  'definitions': {'x': {'$id': 'x.json', 'type': 'integer'}}},
 {'$schema': DRAFT_7, '$ref': '#/$defs/x', '$defs': {'x': {'type': 'integer'}}},
 {'$schema': DRAFT_2019, '$ref': '#x', '$defs': {'x': {'$anchor': 'x', 'type': 'integer'}}}]


def main(out_file):
    cases = []
    for schema in SCHEMAS:
        cls = jsonschema.validators.validator_for(schema, default=jsonschema.Draft202012Validator)
        cls.check_schema(schema)
        validator = cls(schema)
        case = {"schema": schema, "valid": [], "invalid": []}
        for value in POOL:
            case["valid" if validator.is_valid(value) else "invalid"].append(value)
        cases.append(case)
    with open(out_file, "w", encoding="utf-8") as out:
        out.write("[\n" + ",\n".join(json.dumps(c) for c in cases) + "\n]\n")


if __name__ == "__main__":
    main(sys.argv[1])
