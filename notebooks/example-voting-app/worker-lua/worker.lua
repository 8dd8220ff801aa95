-- worker: takes each vote from Redis and writes it to PostgreSQL, one row a voter.
-- The same steps as in ../worker/app.py, in another language: the other services cannot tell.

local json = require("cjson.safe")
local postgres = require("luasql.postgres").postgres()
local socket = require("socket")

io.stdout:setvbuf("line")

local function env(name, default) return os.getenv(name) or default end

local function first_line(text) return tostring(text):match("[^\n]*") end

-- Redis: its protocol is simple enough to be spoken here.

local Queue = {}
Queue.__index = Queue

function Queue.open()
  local connection = assert(socket.tcp())
  connection:settimeout(5)
  assert(connection:connect(env("REDIS_HOST", "redis"), tonumber(env("REDIS_PORT", "6379"))))
  connection:settimeout(10)
  local queue = setmetatable({ connection = connection }, Queue)
  queue:ask("PING") -- an error while Redis still loads its data
  return queue
end

-- Send a command; return a text, a number, or nil when there is nothing.
function Queue:ask(...)
  local words = { ... }
  local command = { "*" .. #words .. "\r\n" }
  for _, word in ipairs(words) do
    command[#command + 1] = "$" .. #tostring(word) .. "\r\n" .. word .. "\r\n"
  end
  assert(self.connection:send(table.concat(command)))
  local line = assert(self.connection:receive("*l"))
  local kind, rest = line:sub(1, 1), line:sub(2)
  if kind == "-" then error(rest, 0) end
  if kind == ":" then return tonumber(rest) end
  if kind == "+" then return rest end
  local length = tonumber(rest)
  if length < 0 then return nil end
  return assert(self.connection:receive(length + 2)):sub(1, length)
end

-- PostgreSQL

local LOCK, UNLOCK = "SELECT pg_advisory_lock(1)", "SELECT pg_advisory_unlock(1)"

local function ask(db, query)
  local answer = assert(db:execute(query))
  if type(answer) == "userdata" then answer:close() end
end

local function open_db()
  local db = assert(postgres:connect(
    "dbname=postgres connect_timeout=5"
    .. " tcp_user_timeout=10000" -- ms: do not wait longer for a node that is gone
    .. " keepalives_idle=60" -- s: Swarm's load balancer forgets connections that stay silent
    .. " host=" .. env("POSTGRES_HOST", "db")
    .. " port=" .. env("POSTGRES_PORT", "5432")
    .. " user=" .. env("POSTGRES_USER", "postgres")
    .. " password=" .. env("POSTGRES_PASSWORD", "postgres")
  ))
  ask(db, LOCK) -- two workers may start at once
  ask(db, "CREATE TABLE IF NOT EXISTS votes"
    .. " (id VARCHAR(255) NOT NULL PRIMARY KEY, vote VARCHAR(255) NOT NULL)")
  ask(db, UNLOCK)
  return db
end

-- Connect, and try again each second until it works.
local function keep_trying(what, connect)
  while true do
    local done, result = pcall(connect)
    if done then return result end
    print("Waiting for " .. what .. ": " .. first_line(result))
    collectgarbage() -- it closes what was left half open
    socket.sleep(1)
  end
end

-- Votes

-- Return voter and vote from an entry of the queue, or nothing if it is no vote.
local function read(entry)
  local ballot = json.decode(entry)
  if type(ballot) ~= "table" then return end
  local voter, vote = ballot.voter_id, ballot.vote
  local known = type(voter) == "string" and voter:match("^%w+$") and #voter <= 64
  if known and (vote == "a" or vote == "b") then return voter, vote end
end

-- Count the vote at the head of the queue.
local function count_next(queue, db)
  ask(db, LOCK)
  local entry = queue:ask("LINDEX", "votes", 0)
  if entry then -- else another worker was faster
    local voter, vote = read(entry)
    if voter then
      print("Processing vote for '" .. vote .. "' by '" .. voter .. "'")
      ask(db, "INSERT INTO votes (id, vote) VALUES ('" .. voter .. "', '" .. vote .. "')"
        .. " ON CONFLICT (id) DO UPDATE SET vote = excluded.vote")
    else
      print("Not a vote, thrown away: " .. entry:gsub("[^%g ]", "?"))
    end
    queue:ask("LREM", "votes", 1, entry)
  end
  ask(db, UNLOCK)
end

while true do
  local queue = keep_trying("redis", Queue.open)
  local db = keep_trying("db", open_db)
  print("Connected to redis and db")
  local _, problem = pcall(function()
    while true do
      -- Wait for a vote: this "moves" the head of the list to where it is already.
      if queue:ask("BLMOVE", "votes", "votes", "LEFT", "LEFT", 5) then count_next(queue, db) end
    end
  end)
  print("Connection lost: " .. first_line(problem))
  queue.connection:close()
  pcall(db.close, db)
  socket.sleep(1)
end
