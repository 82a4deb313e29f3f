"""What Redis does by itself in one step: scripts over values in Feast's layout."""

from __future__ import annotations

# A value is a ValueProto with bytes inside: tag 0x0a, the length as a varint, the bytes.
_VALUES = """
local function inside(value)
  if not value or string.byte(value, 1) ~= 10 then return '' end
  local at = 2
  while string.byte(value, at) and string.byte(value, at) >= 128 do at = at + 1 end
  return string.sub(value, at + 1)
end
local function wrapped(raw)
  local length, prefix = #raw, ''
  repeat
    local low = length % 128
    length = (length - low) / 128
    prefix = prefix .. string.char(length > 0 and low + 128 or low)
  until length == 0
  return '\\10' .. prefix .. raw
end
"""

# Rows of an edge begin with event time, id hash and mark, eight bytes each; of a mark the lowest six bytes are the
# offset and the two above the partition. Rows of one partition stand in the order of their offsets, so that those the
# tiles have absorbed are found at the front, or left for the next time.
#
# A few ids are searched for, each in one sweep of memory; for many it is cheaper to look at each step once. 1500 is
# where both took the same time when measured, for states as for edges.
_EDGES = """
local function absorbed_of(from)
  local marks = {}
  for at = from, #ARGV, 2 do marks[tonumber(ARGV[at])] = tonumber(ARGV[at + 1]) end
  return marks
end
local function stands(words, tie, first, step)
  local at = string.find(words, tie, first, true)
  while at do
    if (at - first) % step == 0 then return true end
    at = string.find(words, tie, at + 1, true)
  end
  return false
end
local function without_known(wanted, number, words, first, step)
  if number * step <= 1500 then
    for tie in pairs(wanted) do
      if stands(words, tie, first, step) then wanted[tie] = nil end
    end
    return
  end
  for at = first, #words - 7, step do
    local tie = string.sub(words, at, at + 7)
    if wanted[tie] then wanted[tie] = nil end
  end
end
local function trimmed(rows, width, marks)
  local at = 1
  while at <= #rows do
    local low, high, partition = struct.unpack('<I4I2I2', rows, at + 16)
    local until_offset = marks[partition]
    if not until_offset or low + high * 4294967296 >= until_offset then break end
    at = at + width
  end
  return at == 1 and rows or string.sub(rows, at)
end
"""

WRITE_STATES = (
    _VALUES
    + """
local at, conflicts, added, names = 1, {}, {}, {}
for place = 2, #KEYS do
  local last = at + 5 + 2 * tonumber(ARGV[at + 5])
  local held = redis.call('HGET', KEYS[place], ARGV[at])
  if string.sub(inside(held), -8) == ARGV[at + 4] then
    redis.call('HSET', KEYS[place], ARGV[at], ARGV[at + 1], ARGV[at + 2], ARGV[at + 3])
    for counter = at + 6, last, 2 do
      local name = ARGV[counter]
      if not added[name] then names[#names + 1] = name end
      added[name] = (added[name] or 0) + tonumber(ARGV[counter + 1])
    end
  else
    conflicts[#conflicts + 1] = place - 2
  end
  at = last + 1
end
for _, name in ipairs(names) do redis.call('HINCRBY', KEYS[1], name, added[name]) end
return conflicts
"""
)
"""KEYS: counters, entities. ARGV: for each entity state field, state, time field, time, what is replaced, the number of
counters, and those with what is added to them. Gives the places of entities that conflict: of these nothing is
written nor counted."""

APPEND_EDGE = (
    _VALUES
    + _EDGES
    + """
local header, width, fresh = ARGV[3], tonumber(ARGV[4]), ARGV[5]
local held = inside(redis.call('HGET', KEYS[1], ARGV[1]))
local rows = string.sub(held, 1, #header) == header and string.sub(held, #header + 1) or ''
local state = inside(redis.call('HGET', KEYS[1], ARGV[2]))
rows = trimmed(rows, width, absorbed_of(6))
local wanted, number = {}, #fresh / width
for at = 9, #fresh, width do wanted[string.sub(fresh, at, at + 7)] = true end
without_known(wanted, number, rows, 9, width)
without_known(wanted, number, state, 1, 8)
local parts = {header, rows}
for at = 1, #fresh, width do
  local tie = string.sub(fresh, at + 8, at + 15)
  if wanted[tie] then
    wanted[tie] = nil
    parts[#parts + 1] = string.sub(fresh, at, at + width - 1)
  end
end
local edge = table.concat(parts)
redis.call('HSET', KEYS[1], ARGV[1], wrapped(edge))
return (#edge - #header) / width
"""
)
"""KEYS: an entity. ARGV: edge field, state field, header, bytes of a row, rows, then partitions and absorbed
offsets. Gives how many rows the edge holds."""

TRIM_EDGES = (
    _VALUES
    + _EDGES
    + """
local header, width = ARGV[2], tonumber(ARGV[3])
local marks, waiting = absorbed_of(4), {}
for place, key in ipairs(KEYS) do
  redis.call('PERSIST', key)
  local value = redis.call('HGET', key, ARGV[1])
  if value then
    local held = inside(value)
    local rows = string.sub(held, 1, #header) == header and string.sub(held, #header + 1) or ''
    local left = trimmed(rows, width, marks)
    if #left == 0 then
      redis.call('HDEL', key, ARGV[1])
    else
      if #left < #rows then redis.call('HSET', key, ARGV[1], wrapped(header .. left)) end
      waiting[#waiting + 1] = place - 1
    end
  end
end
return waiting
"""
)
"""KEYS: entities. ARGV: edge field, header, bytes of a row, then partitions and absorbed offsets. Gives the places of
entities whose edge holds rows yet. An edge with another header goes: nobody can read it. A time to live, which earlier
versions gave and writing to a hash does not end, is taken away: only FORGET ends what somebody may still read."""

# A time is a Timestamp: tag 0x08 and the seconds as a varint, left out when there are none, then 0x10 and the rest.
FORGET = """
local function seconds_of(time)
  if time == '' or string.byte(time, 1) == 16 then return 0 end
  if string.byte(time, 1) ~= 8 then return nil end
  local found, unit = 0, 1
  for at = 2, #time do
    local byte = string.byte(time, at)
    found = found + byte % 128 * unit
    if byte < 128 then return found end
    unit = unit * 128
  end
end
local before_s, forgotten = tonumber(ARGV[4]), 0
for _, key in ipairs(KEYS) do
  local time = redis.call('HGET', key, ARGV[2])
  local newest_s = time and seconds_of(time)
  if newest_s and newest_s < before_s and redis.call('HEXISTS', key, ARGV[3]) == 0 then
    redis.call('HDEL', key, ARGV[1], ARGV[2])
    forgotten = forgotten + 1
  end
end
return forgotten
"""
"""KEYS: entities. ARGV: state field, time field, edge field, and the second since the Unix epoch before which a state's
newest event must lie. Gives how many went; what else a key holds stays."""

PUBLISH_MARKS = """
if (redis.call('GET', KEYS[1]) or '') ~= ARGV[1] then return 0 end
for at = 2, #ARGV, 2 do redis.call('HSET', KEYS[2], ARGV[at], ARGV[at + 1]) end
return 1
"""
"""KEYS: source, marks. ARGV: whose store it must be, then partitions and marks."""

PUBLISH_PROGRESS = """
if redis.call('EXISTS', KEYS[1]) == 0 then return 0 end
redis.call('HSET', KEYS[2], ARGV[1], ARGV[2], ARGV[3], ARGV[4])
local newest = tonumber(ARGV[6])
local held = tonumber(redis.call('HGET', KEYS[2], ARGV[5]) or '')
if newest and not (held and held >= newest and held < 2^63) then redis.call('HSET', KEYS[2], ARGV[5], ARGV[6]) end
return 1
"""
"""KEYS: marks, progress. ARGV: three fields, each with its value. The last one's is only ever replaced by a larger one,
and not by an empty one."""
