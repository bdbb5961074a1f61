"""Task, Agent and Task.Supervisor of Elixir's OTP, for Trio.

The public door: everything a user needs is a name of this module. The nouns live in
underscored files, one each, and the machinery that they share in `_core`.
"""

from ._agent import Agent as Agent
from ._application import run as run
from ._bag_table import BagTable as BagTable
from ._core.children import ChildInfo as ChildInfo
from ._core.errors import AlreadyRegistered as AlreadyRegistered
from ._core.errors import AlreadyRunning as AlreadyRunning
from ._core.errors import BadJobFile as BadJobFile
from ._core.errors import BadReturn as BadReturn
from ._core.errors import BadTableFile as BadTableFile
from ._core.errors import CalledItself as CalledItself
from ._core.errors import CallFailed as CallFailed
from ._core.errors import DuplicateChild as DuplicateChild
from ._core.errors import Exited as Exited
from ._core.errors import ExitProcess as ExitProcess
from ._core.errors import Ignore as Ignore
from ._core.errors import MailboxFull as MailboxFull
from ._core.errors import MaxChildren as MaxChildren
from ._core.errors import NotRunning as NotRunning
from ._core.errors import RestartsExhausted as RestartsExhausted
from ._core.errors import StartFailed as StartFailed
from ._core.errors import TableGone as TableGone
from ._core.errors import TimedOut as TimedOut
from ._core.errors import UnknownChild as UnknownChild
from ._core.errors import UnknownJob as UnknownJob
from ._core.events import CastDropped as CastDropped
from ._core.events import Ended as Ended
from ._core.events import Event as Event
from ._core.events import GaveUp as GaveUp
from ._core.events import Ready as Ready
from ._core.events import Restarting as Restarting
from ._core.events import Started as Started
from ._core.events import StopLate as StopLate
from ._core.events import Subscription as Subscription
from ._core.events import subscribe as subscribe
from ._core.exits import Exit as Exit
from ._core.exits import Reason as Reason
from ._core.options import AutoShutdown as AutoShutdown
from ._core.options import Keys as Keys
from ._core.options import Limit as Limit
from ._core.options import OnTimeout as OnTimeout
from ._core.options import Overflow as Overflow
from ._core.options import Restart as Restart
from ._core.options import Shutdown as Shutdown
from ._core.options import Strategy as Strategy
from ._core.options import StreamOnTimeout as StreamOnTimeout
from ._core.process import Process as Process
from ._core.process import Status as Status
from ._core.process import current_process as current_process
from ._core.restarts import Backoff as Backoff
from ._core.snapshots import ProcessInfo as ProcessInfo
from ._core.snapshots import format_tree as format_tree
from ._core.snapshots import observe as observe
from ._core.specs import ChildOptions as ChildOptions
from ._core.specs import ChildSpec as ChildSpec
from ._core.trapping import ExitRequest as ExitRequest
from ._core.trapping import trap_exit as trap_exit
from ._cron import Cron as Cron
from ._cron import DayRule as DayRule
from ._cron import Dst as Dst
from ._dynamic_supervisor import DynamicSupervisor as DynamicSupervisor
from ._gen_server import GenServer as GenServer
from ._gen_server import Monitor as Monitor
from ._gen_server import Timer as Timer
from ._job_events import ClockJumped as ClockJumped
from ._job_events import JobAdded as JobAdded
from ._job_events import JobDeleted as JobDeleted
from ._job_events import JobErrored as JobErrored
from ._job_events import JobEvent as JobEvent
from ._job_events import JobFailed as JobFailed
from ._job_events import JobMissed as JobMissed
from ._job_events import JobSkipped as JobSkipped
from ._job_events import JobStarted as JobStarted
from ._job_events import JobStopped as JobStopped
from ._job_events import JobUpdated as JobUpdated
from ._job_events import MissReason as MissReason
from ._job_events import SkipReason as SkipReason
from ._job_events import StorageFailed as StorageFailed
from ._job_events import SupervisorPassedOver as SupervisorPassedOver
from ._job_places import OnAllOf as OnAllOf
from ._job_places import OnOneOf as OnOneOf
from ._job_places import Place as Place
from ._job_runs import JobRun as JobRun
from ._job_runs import Outcome as Outcome
from ._job_runs import current_run as current_run
from ._job_sqlite import SQLiteStorage as SQLiteStorage
from ._job_storage import JobStorage as JobStorage
from ._job_storage import MemoryStorage as MemoryStorage
from ._job_storage import StoredJob as StoredJob
from ._jobs import Ack as Ack
from ._jobs import CatchUp as CatchUp
from ._jobs import Job as Job
from ._jobs import JobInfo as JobInfo
from ._jobs import JobState as JobState
from ._jobs import Overlap as Overlap
from ._partition_supervisor import PartitionSupervisor as PartitionSupervisor
from ._registry import Entry as Entry
from ._registry import Registered as Registered
from ._registry import Registry as Registry
from ._registry import Starter as Starter
from ._registry import Unregistered as Unregistered
from ._replies import TIMEOUT as TIMEOUT
from ._replies import Caller as Caller
from ._replies import CallResult as CallResult
from ._replies import CastResult as CastResult
from ._replies import Down as Down
from ._replies import NoReply as NoReply
from ._replies import Reply as Reply
from ._replies import Request as Request
from ._replies import Start as Start
from ._replies import Stop as Stop
from ._runner import OnStorageError as OnStorageError
from ._scheduler import OnConflict as OnConflict
from ._scheduler import Scheduler as Scheduler
from ._schedules import At as At
from ._schedules import Every as Every
from ._schedules import EveryMode as EveryMode
from ._schedules import Jitter as Jitter
from ._schedules import Schedule as Schedule
from ._supervisor import Supervisor as Supervisor
from ._table import Table as Table
from ._task import Task as Task
from ._task_supervisor import TaskSupervisor as TaskSupervisor
from ._wall_clock import SystemClock as SystemClock
from ._wall_clock import WallClock as WallClock

__all__ = (  # noqa: RUF022  # by subject
    # what runs, and how it is described
    "Process", "Task", "TaskSupervisor", "Agent", "GenServer", "Supervisor",
    "DynamicSupervisor", "PartitionSupervisor",
    "ChildSpec", "ChildOptions", "ChildInfo", "Backoff", "run",
    # names
    "Registry", "Entry", "Keys", "Starter", "Registered", "Unregistered",
    # what they share
    "Table", "BagTable",
    # when it is to happen
    "Every", "Cron", "At", "Schedule", "Jitter",
    "Scheduler", "Job", "JobInfo", "JobRun", "current_run", "WallClock", "SystemClock",
    "Place", "OnOneOf", "OnAllOf", "JobStorage", "StoredJob", "MemoryStorage", "SQLiteStorage",
    "JobEvent", "JobAdded", "JobUpdated", "JobDeleted", "JobStarted", "JobStopped", "JobFailed",
    "JobSkipped", "JobMissed", "JobErrored", "SupervisorPassedOver", "StorageFailed", "ClockJumped",
    # inside a process
    "current_process", "trap_exit", "ExitRequest", "ExitProcess", "Ignore",
    # what the handlers of a GenServer are given, and what they return
    "Request", "Caller", "Down", "TIMEOUT", "Timer", "Monitor",
    "Reply", "NoReply", "Stop", "Start", "CallResult", "CastResult",
    # how it ended
    "Exit", "Reason", "Status",
    # watching
    "observe", "ProcessInfo", "format_tree", "subscribe", "Subscription",
    "Event", "Started", "Ready", "Ended", "Restarting", "GaveUp", "StopLate", "CastDropped",
    # what goes wrong
    "CallFailed", "NotRunning", "Exited", "TimedOut", "CalledItself", "MailboxFull",
    "AlreadyRunning", "StartFailed", "RestartsExhausted", "DuplicateChild", "UnknownChild",
    "UnknownJob",
    "MaxChildren", "AlreadyRegistered", "BadReturn", "TableGone", "BadTableFile", "BadJobFile",
    # words that options take
    "Restart", "Strategy", "AutoShutdown", "Overflow", "OnTimeout", "StreamOnTimeout",
    "Shutdown", "Limit", "EveryMode", "Dst", "DayRule",
    "Overlap", "CatchUp", "Ack", "JobState", "Outcome", "SkipReason", "MissReason", "OnConflict",
    "OnStorageError",
)  # fmt: skip

for _name in __all__:  # tracebacks and documentation say trio_otp.Agent
    if getattr(globals()[_name], "__module__", "").startswith(__name__ + "."):
        globals()[_name].__module__ = __name__
