"""Arrow Flight with a token on every call, JSON instead of pickles, and a bound on what strangers can cost.

A call that cannot be served changes nothing and is answered with ``{"error": sentence}``; one without the token is refused
before anything of it is read.
"""

import hmac
import json
import logging
import threading
import time

import pyarrow as pa
import pyarrow.flight as flight

from sparkneuro.errors import SparkneuroError, TrainingError
from sparkneuro.train.parameter_server.ledger import OutOfStep

TOKEN_HEADER = "authorization"
# What a caller may have got wrong; anything else is a defect of ours and keeps its traceback.
CALLERS_FAULTS = (SparkneuroError, ValueError, TypeError, KeyError, RecursionError)
log = logging.getLogger(__name__)


class ServerLost(TrainingError):
    """A server cannot be reached, or has lost its place: find it again, register again, go on."""


class BadCalls:
    """Counts calls that are refused, says so now and then, and slows down who makes many.

    Parameters
    ----------
    quiet_s : float
        Seconds between two lines of the log.
    free : int
        Bad calls within `quiet_s` that are answered at once.
    delay_s : float
        How long each further one waits for its answer.
    now, sleep : callable
        Clock; replaced in tests.
    """

    def __init__(self, quiet_s=10.0, free=20, delay_s=0.1, now=time.monotonic, sleep=time.sleep):
        self.total = 0
        self._quiet_s, self._free, self._delay_s = quiet_s, free, delay_s
        self._now, self._sleep = now, sleep
        self._lock = threading.Lock()
        # Who waits for an answer holds a thread of ours: only so many do, the others are refused at once.
        self._waiting = threading.Semaphore(4)
        self._since, self._recent, self._told = now(), 0, 0

    def note(self, reason):
        """Note a bad call.

        Parameters
        ----------
        reason : str
            What was wrong with it.
        """
        with self._lock:
            now = self._now()
            self.total += 1
            fresh = now - self._since > self._quiet_s
            if fresh:
                self._since, self._recent = now, 0
            self._recent += 1
            recent = self._recent
            if fresh or self.total == 1:
                log.warning("%d bad calls refused since the last such line; the newest: %s", self.total - self._told, reason)
                self._told = self.total
        if recent > self._free and self._waiting.acquire(blocking=False):
            try:
                self._sleep(self._delay_s)
            finally:
                self._waiting.release()


class _TokenCheck(flight.ServerMiddlewareFactory):
    def __init__(self, token, bad_calls):
        super().__init__()
        self._token = token.encode()
        self._bad_calls = bad_calls

    def start_call(self, info, headers):
        came = headers.get(TOKEN_HEADER, [""])[0]
        came = came if isinstance(came, bytes) else came.encode()
        if not hmac.compare_digest(came, self._token):
            self._bad_calls.note("a call without the run's token")
            raise flight.FlightUnauthenticatedError("this call does not carry the run's token.")


class SecureServer(flight.FlightServerBase):
    """A Flight server whose actions take and return JSON.

    Parameters
    ----------
    host : str
        Address to bind.
    credentials : Credentials
        What callers must show.
    actions : dict of str to callable
        Served actions; each takes the JSON's fields by name and returns what is fit for JSON.

    Raises
    ------
    TrainingError
        When the address cannot be bound.
    """

    def __init__(self, host, credentials, actions):
        self.bad_calls = BadCalls()
        self._actions = actions
        middleware = {"token": _TokenCheck(credentials.token, self.bad_calls)}
        try:
            super().__init__(f"{credentials.scheme}://{host}:0", middleware=middleware, **credentials.server_options())
        except pa.ArrowException as error:
            raise TrainingError(f"a server did not start on {host}; can this machine bind that address?") from error

    def do_action(self, context, action):
        """Serve an action (called by Arrow).

        Parameters
        ----------
        context : pyarrow.flight.ServerCallContext
            Not used.
        action : pyarrow.flight.Action
            Its body is JSON.

        Returns
        -------
        results : list of pyarrow.flight.Result
            One, JSON.
        """
        try:
            if action.type not in self._actions:
                raise TrainingError(f"an action must be one of {', '.join(sorted(self._actions))}; got {action.type!r}.")
            answer = self._actions[action.type](**json.loads(action.body.to_pybytes() or b"{}"))
        except CALLERS_FAULTS as error:
            answer = self.refuse(error)
        return [flight.Result(pa.py_buffer(json.dumps(answer).encode()))]

    def refuse(self, error):
        """Make the answer to a call that cannot be served.

        Parameters
        ----------
        error : Exception
            Why not.

        Returns
        -------
        answer : dict
            The sentence, and whether registering again would help.
        """
        if isinstance(error, OutOfStep):
            return {"error": f"{error}", "again": True}
        self.bad_calls.note(f"{error.__class__.__name__}: {error}")
        return {"error": f"{error}"}


class _SendToken(flight.ClientMiddlewareFactory):
    def __init__(self, token):
        super().__init__()
        self._middleware = _TokenHeader(token)

    def start_call(self, info):
        return self._middleware


class _TokenHeader(flight.ClientMiddleware):
    def __init__(self, token):
        super().__init__()
        self._headers = {TOKEN_HEADER: token}

    def sending_headers(self):
        return self._headers


class SecureClient:
    """Calls to one server.

    Parameters
    ----------
    address : str
        ``host:port``.
    credentials : Credentials
        The run's.
    timeout_s : float
        Longest time that one call may take.
    name : str
        The server's name in messages.
    """

    def __init__(self, address, credentials, timeout_s=60.0, name="server"):
        self.address = address
        self._name = f"{name} at {address}"
        self._timeout_s = timeout_s
        self._connection = flight.FlightClient(
            f"{credentials.scheme}://{address}", middleware=[_SendToken(credentials.token)], **credentials.client_options()
        )

    def act(self, action, **body):
        """Call an action.

        Parameters
        ----------
        action : str
            Its name.
        **body
            Its arguments, fit for JSON.

        Returns
        -------
        answer : dict
            The server's answer.

        Raises
        ------
        ServerLost
            When the server is gone, does not answer in time, or wants the caller to register again.
        TrainingError
            When the server refuses.
        """

        def call():
            request = flight.Action(action, json.dumps(body).encode())
            (result,) = self._connection.do_action(request, self.options())
            return json.loads(result.body.to_pybytes())

        return self.checked(self.guarded(call))

    def close(self):
        """Close the connection."""
        self._connection.close()

    def options(self):
        """Return the options of one call.

        Returns
        -------
        options : pyarrow.flight.FlightCallOptions
            With the time-out.
        """
        return flight.FlightCallOptions(timeout=self._timeout_s)

    def guarded(self, call):
        """Make a call, with its failures as one sentence.

        Parameters
        ----------
        call : callable
            Makes it.

        Returns
        -------
        answer : object
            What `call` returned.
        """
        try:
            return call()
        except flight.FlightTimedOutError as error:
            raise ServerLost(f"{self._name} did not answer within {self._timeout_s:g} s.") from error
        except flight.FlightUnauthenticatedError as error:
            raise TrainingError(f"{self._name} belongs to another run: it does not accept this run's token.") from error
        except (flight.FlightError, pa.ArrowException, StopIteration, OSError) as error:
            said = str(error).partition(". gRPC client debug context")[0].splitlines()
            cause = said[0] if said else type(error).__name__
            if "Python exception" in str(error):  # it is there, and has failed: looking for it again would not help
                raise TrainingError(f"{self._name} failed at a call: {str(error)[:1000]}") from error
            raise ServerLost(f"{self._name} cannot be reached: {cause}") from error

    def checked(self, answer):
        """Raise what a server refused.

        Parameters
        ----------
        answer : dict
            Its answer.

        Returns
        -------
        answer : dict
            The same, when it is no refusal.
        """
        if "error" in answer:
            kind = ServerLost if answer.get("again") else TrainingError
            raise kind(f"{self._name} refused a call: {answer['error']}")
        return answer
