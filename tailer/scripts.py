"""What Redis does in one step: the scripts of ``tailer.store``, in Lua. Its docstring has the keys.

A log over its limit has its tail in a list of its own, and the field ``N.gap`` in its hash: eight numbers with spaces
between them. Offset and line at which the tail list once began, and ``m`` if it was in the middle of a line, else
``-``; how many elements were removed from its front since, and offset, line and time (ms) behind the last of them; how
many bytes of output it holds. In an index, the elements that were removed count: it is the number of elements that
were ever stored before.
"""

from __future__ import annotations

from tailer.records import OVER_LIMIT

_KEEP = """
-- KEYS meta, list, alive, tail list, the lists of the attempts before
local function keep(ttl)
  for index, key in ipairs(KEYS) do if index ~= 3 then redis.call('PEXPIRE', key, ttl) end end
end
"""

START = (
    _KEEP
    + """
-- ARGV number, execution, attempt element, its JSON, now ms, channel, ms that a log lives which finished, and one that
-- did not. Returns the number alone if it is another one, whose keys are not among these.
local number = ARGV[1]
local known = redis.call('HGET', KEYS[1], 'x.' .. ARGV[2])
if known and known ~= number then return {known} end
if not known then
  if tonumber(number) <= tonumber(redis.call('HGET', KEYS[1], 'attempts') or '0') then return false end
  redis.call('HSET', KEYS[1], 'attempts', number, 'x.' .. ARGV[2], number, number .. '.end', '0',
    number .. '.lines', '0', number .. '.started', ARGV[5], number .. '.about', ARGV[4],
    'ttl', ARGV[7] .. ' ' .. ARGV[8])
  -- A list without its hash is what an eviction left of another log.
  redis.call('DEL', KEYS[2], KEYS[4])
  redis.call('RPUSH', KEYS[2], ARGV[3])
  keep(string.format('%d', math.max(tonumber(ARGV[7]), tonumber(ARGV[8]))))
end
redis.call('SET', KEYS[3], '1', 'PX', 15000)
redis.call('PUBLISH', ARGV[6], number)
return {number, redis.call('HGET', KEYS[1], number .. '.end'), redis.call('HGET', KEYS[1], number .. '.lines')}
"""
)

_PUSH = """
local function push(key, first, last)
  local length
  -- Lua's stack takes some 8,000 arguments at once.
  for i = first, last, 1000 do length = redis.call('RPUSH', key, unpack(ARGV, i, math.min(i + 999, last))) end
  return length
end
"""

APPEND = (
    _PUSH
    + """
-- KEYS meta, list, tail list; ARGV number, offset, offset after, lines after, ttl ms, channel, bytes that the head
-- and the tail keep, element...
local number = ARGV[1]
local at, ended, gap = unpack(redis.call('HMGET', KEYS[1], number .. '.end', number .. '.ended', number .. '.gap'))
if not at then return 'missing' end
-- A worker thought lost that comes back goes on; its real end record will be the last one.
if ended and not string.find(ended, '"outcome":"lost"', 1, true) then return 'closed' end
if at ~= ARGV[2] then return at end

local function output(element)
  return tonumber(string.match(element, '^[oes] %d+ %d+ (%d+) ') or 0)
end

local first, index = 9, nil
if not gap then
  -- The head is what begins within its limit.
  local last, limit = #ARGV, tonumber(ARGV[7])
  if tonumber(ARGV[3]) > limit then
    last = 8
    while last < #ARGV and tonumber(string.match(ARGV[last + 1], '^%l %d+ (%d+) ') or 0) < limit do last = last + 1 end
  end
  index = (push(KEYS[2], first, last) or 0) - 1
  first = last + 1
end
if first <= #ARGV then
  local start, line, flag, removed, stop, stop_line, time, bytes
  if gap then
    start, line, flag, removed, stop, stop_line, time, bytes =
      string.match(gap, '^(%d+) (%d+) ([m-]) (%d+) (%d+) (%d+) (%d+) (%d+)$')
    -- Removed before the push: a follower that is up to date finds all of what comes now.
    removed, bytes = tonumber(removed), tonumber(bytes)
    while true do
      local oldest = redis.call('LINDEX', KEYS[3], 0)
      if not oldest then bytes = 0 break end
      local left = bytes - output(oldest)
      if left < tonumber(ARGV[8]) then break end
      redis.call('LPOP', KEYS[3])
      removed, bytes = removed + 1, left
      local now, offset, length, on, lines = string.match(oldest, '^%l (%d+) (%d+) (%d+) (%d+) (%d+) ')
      if now then
        time, stop, stop_line = now, string.format('%d', offset + length), string.format('%d', on + lines)
      end
    end
  else
    local flags
    time, start, line, flags = string.match(ARGV[first], '^%l (%d+) (%d+) %d+ (%d+) %d+ (%S+)\\n')
    flag = string.find(flags, 'm', 1, true) and 'm' or '-'
    removed, stop, stop_line, bytes = 0, start, line, 0
  end
  for i = first, #ARGV do bytes = bytes + output(ARGV[i]) end
  index = redis.call('LLEN', KEYS[2]) + removed + push(KEYS[3], first, #ARGV) - 1
  redis.call('HSET', KEYS[1], number .. '.gap', string.format('%s %s %s %d %s %s %s %d',
    start, line, flag, removed, stop, stop_line, time, bytes))
  redis.call('PEXPIRE', KEYS[3], ARGV[5])
end
if ended then redis.call('HDEL', KEYS[1], number .. '.ended') end
redis.call('HSET', KEYS[1], number .. '.end', ARGV[3], number .. '.lines', ARGV[4])
redis.call('PEXPIRE', KEYS[1], ARGV[5])
redis.call('PEXPIRE', KEYS[2], ARGV[5])
-- A larger element is worth a round trip of whoever wants it, and not a copy for everybody who listens.
local told = #ARGV == 9 and #ARGV[9] <= 2048
redis.call('PUBLISH', ARGV[6], told and number .. ' ' .. string.format('%d', index) .. ' ' .. ARGV[9] or number)
return ARGV[3]
"""
)

SEAL = (
    _PUSH
    + """
-- KEYS meta, lists; ARGV number, its end's JSON, number of elements in each list, number of those that are to take
-- their place in the first one, element... A list that gets none stays as it is. Returns whether they were those lists.
if redis.call('HGET', KEYS[1], ARGV[1] .. '.ended') ~= ARGV[2] then return 0 end
local last = {5 + tonumber(ARGV[5]), #ARGV}
for i = 1, 2 do
  if redis.call('LLEN', KEYS[i + 1]) ~= tonumber(ARGV[i + 2]) then return 0 end
end
local first = 6
for i = 1, 2 do
  if first <= last[i] then
    local left = redis.call('PTTL', KEYS[i + 1])
    redis.call('UNLINK', KEYS[i + 1])
    push(KEYS[i + 1], first, last[i])
    if left >= 0 then redis.call('PEXPIRE', KEYS[i + 1], left) end
  end
  first = last[i] + 1
end
redis.call('HSET', KEYS[1], ARGV[1] .. '.sealed', '1')
return 1
"""
)

END = (
    _KEEP
    + """
-- ARGV number, offset, element and JSON if it is the last attempt, element and JSON if not, channel, "1" to take back
-- a lost end, 1 if the job is over and finished, 2 if it is over, else 0, and ms that a log lives with either, if its
-- hash does not say that. Returns the offset, and ms that the log lives if it was ended.
local number = ARGV[1]
local at = redis.call('HGET', KEYS[1], number .. '.end')
if not at then return 'missing' end
local ended = redis.call('HGET', KEYS[1], number .. '.ended')
if ended == ARGV[4] or ended == ARGV[6] then return at end
if ended and not (ARGV[8] == '1' and string.find(ended, '"outcome":"lost"', 1, true)) then return 'closed' end
if at ~= ARGV[2] then return at end
local last = tonumber(redis.call('HGET', KEYS[1], 'attempts')) <= tonumber(number)
local list = redis.call('HEXISTS', KEYS[1], number .. '.gap') == 1 and KEYS[4] or KEYS[2]
redis.call('RPUSH', list, last and ARGV[3] or ARGV[5])
redis.call('HSET', KEYS[1], number .. '.ended', last and ARGV[4] or ARGV[6])
redis.call('DEL', KEYS[3])
local finished, failed = string.match(redis.call('HGET', KEYS[1], 'ttl') or '', '^(%d+) (%d+)$')
finished, failed = tonumber(finished or ARGV[10]), tonumber(failed or ARGV[11])
local ttl = math.max(finished, failed)
if last and ARGV[9] ~= '0' then ttl = ARGV[9] == '1' and finished or failed end
ttl = string.format('%d', ttl)
keep(ttl)
redis.call('PUBLISH', ARGV[7], number)
return {at, ttl}
"""
)

KEEP_ALIVE = (
    _KEEP
    + """
-- ARGV number, ttl ms
if redis.call('HEXISTS', KEYS[1], ARGV[1] .. '.end') == 0 then return 0 end
redis.call('SET', KEYS[3], '1', 'PX', 15000)
keep(ARGV[2])
return 1
"""
)

_HOLE = """
-- Returns the number of elements that were removed, and a hole record in their place if there are any, and there is
-- anything of the log: its hash lives on when an archive has taken it. Head elements, the first of which has the index
-- base, are before them.
local function hole(gap, head, base)
  if redis.call('EXISTS', KEYS[1], KEYS[2]) == 0 then return 0 end
  local start, line, flag, removed, stop, stop_line, time =
    string.match(gap or '', '^(%d+) (%d+) ([m-]) (%d+) (%d+) (%d+) (%d+) %d+$')
  removed = tonumber(removed or 0)
  if removed == 0 then return 0 end
  return removed, string.format('h %s %s %d %s %d %s\\n{"cause":"CAUSE","next":%d}',
    time, start, stop - start, line, stop_line - line, flag, base + head + removed)
end
""".replace("CAUSE", OVER_LIMIT.replace("'", "\\'"))

READ = (
    _HOLE
    + """
-- KEYS list, tail list, meta; ARGV number, places of the first and the last element (-1: of all of them) in the list,
-- index of what is in its first place: not 0 if it is sealed. Returns these elements; among them, in the place of those
-- that were removed, a hole. Returns nothing if it is sealed by now, or is not.
if redis.call('HEXISTS', KEYS[3], ARGV[1] .. '.sealed') ~= (ARGV[4] == '0' and 0 or 1) then return false end
local first, last = tonumber(ARGV[2]), tonumber(ARGV[3])
if last < 0 then last = 9007199254740991 end
local found = redis.call('LRANGE', KEYS[1], first, string.format('%d', last))
local head = redis.call('LLEN', KEYS[1])
local left = last - first + 1 - #found
if left <= 0 then return found end
local removed, missing = hole(redis.call('HGET', KEYS[3], ARGV[1] .. '.gap'), head, tonumber(ARGV[4]))
local start = math.max(first, head) - head - removed
if start < 0 then
  start, left = 0, left - 1
  found[#found + 1] = missing
end
if left > 0 then
  local stop = string.format('%d', start + left - 1)
  for _, element in ipairs(redis.call('LRANGE', KEYS[2], start, stop)) do found[#found + 1] = element end
end
return found
"""
)

LOCATE = (
    _HOLE
    + """
-- KEYS list, or list, tail list, meta; ARGV what ('offset', 'line' or 'time'), value, number. Returns the index, from
-- 0, of the first element that reaches value, the offset at which it begins, the element, and 1 if that or one behind
-- it can be read. Headers are in order, so a binary search does. One that cannot be read is taken for one that reaches
-- value if the next readable one does, unless value begins in that one.
local value, head = tonumber(ARGV[2]), redis.call('LLEN', KEYS[1])
local removed, missing, size = 0, nil, head
if KEYS[2] then
  removed, missing = hole(redis.call('HGET', KEYS[3], ARGV[3] .. '.gap'), head, 0)
  size = head + (missing and 1 or 0) + redis.call('LLEN', KEYS[2])
end
local function element(place)
  if place < head then return redis.call('LINDEX', KEYS[1], place) end
  if missing and place == head then return missing end
  return redis.call('LINDEX', KEYS[2] or KEYS[1], place - head - (missing and 1 or 0))
end
local function header(place)
  return string.match(element(place), '^%l (%d+) (%d+) (%d+) (%d+) (%d+) ')
end
local function readable(place)
  while place < size do
    local time, offset, length, line, lines = header(place)
    if time then return place, tonumber(time), tonumber(offset), tonumber(length), tonumber(line), tonumber(lines) end
    place = place + 1
  end
end
local function reaches(time, offset, length, line, lines)
  if ARGV[1] == 'time' then return time >= value end
  if ARGV[1] == 'line' then return line + lines >= value end
  return offset >= value or offset + length > value
end
local low, high = 0, size
while low < high do
  local middle = math.floor((low + high) / 2)
  local place, time, offset, length, line, lines = readable(middle)
  if not place or reaches(time, offset, length, line, lines) then high = middle else low = place + 1 end
end
local place, _, offset, _, line = readable(low)
if place ~= low then
  if place and ((ARGV[1] == 'line' and line < value) or (ARGV[1] == 'offset' and offset < value)) then
    low = place
  else
    offset = 0
    for before = low - 1, 0, -1 do
      local time, start, length = header(before)
      if time then offset = start + length break end
    end
  end
end
local index = low
if missing and low > head then index = low - 1 + removed end
return {index, offset, low < size and element(low), place and 1 or 0}
"""
)
