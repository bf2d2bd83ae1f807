"""What every consumer does: answer a delivery (`consumer`), keep a lease (`lease`), decide about a failed attempt
(`retry`), tell the broker what was committed (`relay`), and bring one object in step with the bucket (`sync`).
"""
