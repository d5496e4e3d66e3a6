"""A DNS that serves lists with every fault that lists have."""

from __future__ import annotations

import dns.message
import dns.name
import dns.rcode
import dns.rdatatype

from relay.cli.zone import ZoneServer


class ListServer(ZoneServer):
    """Serves lists that are whole, from their records, and those that are not, by what they do for every name.

    Attributes:
        faulty: zones, with `dead` (no answer), `servfail`, or the address that they answer for every name.
        asked: every question below such a zone, and below those of the records.
    """

    def __init__(self, records: dict[tuple[str, str], list[str]], faulty: dict[str, str] | None = None) -> None:
        super().__init__(records)
        self.faulty = faulty if faulty is not None else {}
        self.asked: list[str] = []

    def answer(self, request: dns.message.Message) -> dns.message.Message | None:
        name = request.question[0].name
        self.asked.append(f"{name.to_text(omit_final_dot=True)} {dns.rdatatype.to_text(request.question[0].rdtype)}")
        for zone, fault in self.faulty.items():
            if name.is_subdomain(dns.name.from_text(zone)):
                return self._faulty(request, fault)
        return super().answer(request)

    def _faulty(self, request: dns.message.Message, fault: str) -> dns.message.Message | None:
        if fault == "dead":
            return None
        response = dns.message.make_response(request, recursion_available=True)
        if fault == "servfail":
            response.set_rcode(dns.rcode.SERVFAIL)
        elif request.question[0].rdtype == dns.rdatatype.A:
            response.answer.append(self._rrset(request.question[0].name, "A", [fault]))
        return response
