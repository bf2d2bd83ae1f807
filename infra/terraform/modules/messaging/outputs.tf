output "topic_ids" {
  description = "Topics by their logical names."
  value       = local.topic_ids
}

output "topic_names" {
  description = "Names of the topics, by their logical names."
  value       = { for name, topic in google_pubsub_topic.this : name => topic.name }
}

output "subscription_names" {
  description = "Names of the subscriptions, by their logical names."
  value       = { for name, subscription in google_pubsub_subscription.this : name => subscription.name }
}

output "taken_by_services" {
  description = "Logical names of the subscriptions that services take from; the others are looked at by people."
  value       = sort(setsubtract(keys(local.subscriptions), ["stages-watch", "dead-letters-inspect"]))
}

output "push_endpoints" {
  description = "Where the subscriptions that are pushed are pushed to."
  value       = { for name, subscription in google_pubsub_subscription.this : name => subscription.push_config[0].push_endpoint if length(subscription.push_config) > 0 }
}
