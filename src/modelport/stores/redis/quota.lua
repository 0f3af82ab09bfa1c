-- One message of a holder about one subject: the same arithmetic as modelport/stores/allotments/bank.py.
-- KEYS[1] the subject's state; ARGV[1] the message (MessagePack), ARGV[2] the time in milliseconds, or '' for the server's.
local WINDOW_MS, RECOVERY_MS, KEPT_SECONDS, UNLIMITED = 60000, 2000, 150, -1
local TOKENS, REQUESTS, PLACES = 1, 2, 3
local NUMBER, BATCH, HELD_TOKENS, HELD_REQUESTS, HELD_PLACES, UNTIL = 1, 2, 3, 4, 5, 6
local _, holder_name, number, epoch, fresh_epoch, keep, batch, spent, need, want, limits, lifetime_ms =
    unpack(cmsgpack.unpack(ARGV[1]))

local now_ms
if ARGV[2] == '' then
    local time = redis.call('TIME')
    now_ms = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
else
    now_ms = tonumber(ARGV[2])
end

local state
local stored = redis.call('GET', KEYS[1])
if stored then
    state = cmsgpack.unpack(stored)
else
    state = {epoch = fresh_epoch, now_ms = 0, recovering_ms = 0, tokens = {}, requests = {}, times = {}, holders = {}}
    if epoch ~= '' then state.recovering_ms = now_ms + RECOVERY_MS end
end
now_ms = math.max(now_ms, state.now_ms)
state.now_ms = now_ms

local function book(at_ms, tokens, requests)
    local second = string.format('%d', math.floor(at_ms / 1000))
    state.tokens[second] = (state.tokens[second] or 0) + tokens
    state.requests[second] = (state.requests[second] or 0) + requests
    state.times[second] = math.max(at_ms, state.times[second] or 0)
end

local function total(window)
    local sum = 0
    for _, amount in pairs(window) do sum = sum + amount end
    return sum
end

local function answer(status, fields)
    redis.call('SET', KEYS[1], cmsgpack.pack(state), 'EX', KEPT_SECONDS)
    fields = fields or {}
    return cmsgpack.pack({
        status, state.epoch, fields.granted or {0, 0, 0}, fields.free or {0, 0, 0}, fields.leaving or {},
        fields.empty_ms or 0, fields.holders or 1
    })
end

-- What has left the window, and what dead holders held.
for name, holder in pairs(state.holders) do
    if holder[UNTIL] <= now_ms then
        book(holder[UNTIL], holder[HELD_TOKENS], holder[HELD_REQUESTS])
        state.holders[name] = nil
    end
end
for second, at_ms in pairs(state.times) do
    if at_ms <= now_ms - WINDOW_MS then
        state.tokens[second], state.requests[second], state.times[second] = nil, nil, nil
    end
end

local holder = state.holders[holder_name]
if holder and number <= holder[NUMBER] then return answer('stale') end
if epoch ~= '' and epoch ~= state.epoch then return answer('lost') end
if not holder or batch > holder[BATCH] then
    for _, one in ipairs(spent) do
        if one[1] < WINDOW_MS then book(now_ms - math.max(0, one[1]), one[2], one[3]) end
    end
end
holder = {number, batch, keep[TOKENS], keep[REQUESTS], keep[PLACES], now_ms + lifetime_ms}
state.holders[holder_name] = holder

local count, held_tokens, held_requests, held_places = 0, 0, 0, 0
for _, one in pairs(state.holders) do
    count = count + 1
    held_tokens = held_tokens + one[HELD_TOKENS]
    held_requests = held_requests + one[HELD_REQUESTS]
    held_places = held_places + one[HELD_PLACES]
end
if now_ms < state.recovering_ms then return answer('recovering', {holders = count}) end

local last = 0
for second, at_ms in pairs(state.times) do
    if state.tokens[second] > 0 or state.requests[second] > 0 then last = math.max(last, at_ms) end
end
local empty_ms = 0
if last > 0 then empty_ms = math.max(0, last + WINDOW_MS - now_ms) end

local function left(limit, taken)
    if limit == UNLIMITED then return 0 end
    return limit - taken
end

local free = {
    left(limits[TOKENS], total(state.tokens) + held_tokens),
    left(limits[REQUESTS], total(state.requests) + held_requests),
    left(limits[PLACES], held_places)
}
local function is_short(what)
    return limits[what] ~= UNLIMITED and need[what] > 0 and need[what] > free[what]
end
if is_short(TOKENS) or is_short(REQUESTS) or is_short(PLACES) then
    local order, leaving = {}, {}
    for second in pairs(state.times) do order[#order + 1] = second end
    table.sort(order, function(one, other) return tonumber(one) < tonumber(other) end)
    for index, second in ipairs(order) do
        local seconds = math.max(1, math.ceil((state.times[second] + WINDOW_MS - now_ms) / 1000))
        leaving[index] = {seconds, state.tokens[second], state.requests[second]}
    end
    return answer('refused', {free = free, leaving = leaving, empty_ms = empty_ms, holders = count})
end

local granted, rest = {}, {}
for what = TOKENS, PLACES do
    granted[what] = 0
    if limits[what] ~= UNLIMITED then
        local extra = math.min(want[what] - need[what], math.floor((free[what] - need[what]) / (2 * count)))
        granted[what] = need[what] + math.max(0, extra)
    end
    rest[what] = free[what] - granted[what]
end
holder[HELD_TOKENS] = holder[HELD_TOKENS] + granted[TOKENS]
holder[HELD_REQUESTS] = holder[HELD_REQUESTS] + granted[REQUESTS]
holder[HELD_PLACES] = holder[HELD_PLACES] + granted[PLACES]
return answer('granted', {granted = granted, free = rest, empty_ms = empty_ms, holders = count})
